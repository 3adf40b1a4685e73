"""Singer tap for the leads of the MEGA CRM."""
