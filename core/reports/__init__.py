"""Reports for people: pages of HTML that need nothing else, and the plots in them."""
