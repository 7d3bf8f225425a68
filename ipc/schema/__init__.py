"""What crosses a boundary, declared once: fields, reasons, messages, records. All else follows."""
