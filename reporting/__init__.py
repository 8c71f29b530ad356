"""From the results of runs to the tables and pictures of a comparison."""
