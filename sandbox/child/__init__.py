"""What runs inside the zygotes and their children. Nothing here imports the rest of the package:
every module loaded in a zygote is memory that each fork has to copy."""
