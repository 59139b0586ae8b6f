"""From runs and numbers to what a page shows: claims, findings, tables, figures."""
