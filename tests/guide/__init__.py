"""The programs of the guide that flow grew from, and the means to run them."""
