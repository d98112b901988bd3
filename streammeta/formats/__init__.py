"""What people's data look like: values, names and files of many kinds, read into the one form that streammeta uses."""
