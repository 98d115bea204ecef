"""What people and programs read: the verdict as JSON and as a table. Numbers are formatted in numbers.py alone."""
