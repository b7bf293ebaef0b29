--- Reads one JSON document a line and writes encode(decode(line)), one a line: tests/json/oracle.py reads it.

local json = require "moonflow.json"

for line in io.lines() do
    local value, err = json.decode(line) -- not assert: false is a value
    if err then
        error(tostring(err) .. ": " .. line:sub(1, 200))
    end
    io.write(assert(json.encode(value)), "\n")
end
