"""Everything that leaves: plan and post-implant folders, tables, figures, reports, the printed template."""
