"""Other programs that read the leads, each written as its documentation teaches."""
