"""The same leads by other means, each as its own documentation teaches."""
