"""Progressive sharpening (document 4, part 4, and document 2). The notebook is still to come."""
