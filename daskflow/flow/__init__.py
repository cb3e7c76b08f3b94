"""What the user wrote: the flow class, its graph, its rules. Pure, apart from reading the source."""
