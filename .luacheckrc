std = "lua54"
max_line_length = 120
exclude_files = { "build*", "node_modules", ".venv", ".tests" }
files["tests/spec"] = { std = "+busted" }
