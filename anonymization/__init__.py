"""Image anonymization: regions -> crops -> methods -> paste. Plain torch: knows no dataset, no trainer."""
