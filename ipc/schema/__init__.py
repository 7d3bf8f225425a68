"""Fields, messages and records that cross a boundary, declared once; and what writes the rest."""
