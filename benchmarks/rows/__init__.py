"""What is measured: cases of Lorimer, one module for each group of rows."""
