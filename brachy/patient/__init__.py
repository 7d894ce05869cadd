"""Who is treated, what is prescribed, and what was planned: case, protocol and plan records."""
