"""Plans that change: edited by hand, or replanned during the implantation."""
