"""Is this plan good? Goals, rules, uncertainties and their Monte Carlo."""
