"""What crosses a boundary, declared once: fields, messages and records; and what writes the rest."""
