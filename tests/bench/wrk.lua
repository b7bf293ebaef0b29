-- wrk's request: the same bytes as everybody's. Its argument is the file.
function init(args) -- luacheck: ignore
    local file = assert(io.open(args[1]))
    wrk.method, wrk.body = "POST", file:read("a") -- luacheck: ignore
    wrk.headers["Content-Type"] = "application/json" -- luacheck: ignore
    file:close()
end

function done(summary) -- luacheck: ignore
    local errors = summary.errors
    local bad = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    assert(bad == 0, "errors")
    print("requests " .. summary.requests)
end
