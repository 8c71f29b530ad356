"""Constant grey."""

# Hukkelås & Lindseth 2023: 0 on the scale [-1, 1], which is 127.5 of 255 and rounds (half to even) to 128.
GREY = 128
