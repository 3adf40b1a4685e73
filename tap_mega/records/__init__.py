"""How records leave: selected, conformed, flattened, written."""
