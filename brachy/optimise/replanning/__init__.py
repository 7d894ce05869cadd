"""Change of a plan: edits by hand, and replanning during the implantation."""
