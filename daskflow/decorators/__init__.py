"""What can be written above a step, one file each. All of it is made of the hooks that others can use too."""
