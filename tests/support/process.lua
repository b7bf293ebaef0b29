--- Runs a program to its end: arguments, environment and standard input in; standard output,
-- standard error and exit code out.
local process = {}

local function quote(word)
    return "'" .. tostring(word):gsub("'", "'\\''") .. "'"
end

local function read_and_remove(name)
    local file <close> = assert(io.open(name, "rb"))
    os.remove(name)
    return file:read("a")
end

local function write_input(text)
    local name = os.tmpname()
    local file <close> = assert(io.open(name, "wb"))
    file:write(text)
    return name
end

--- The program under test.
---@return string
function process.moonflow()
    return require("support.skip").unless_env("MOONFLOW_BIN")
end

--- Runs `options[1]` with the arguments `options[2]...`; without a program, moonflow itself:
-- process.run{ args = {...} }.
--   args    arguments of moonflow (instead of the list)
--   env     name -> string, or false to unset one
--   stdin   string; default: nothing
--   dir     working directory
--   timeout seconds (default 60); the exit code is 124 when it passed
--   interrupt  seconds after which it gets SIGINT, as by Ctrl-C
---@param options table
---@return table result code, stdout, stderr, signal (number, when one ended it)
function process.run(options)
    local words = { "exec", "timeout", options.timeout or 60 }
    if options.interrupt then
        -- in the foreground, as it would else signal its process group too: two interrupts, not one
        table.move({ "timeout", "--foreground", "--preserve-status", "--signal=INT", options.interrupt }, 1, 5,
            #words + 1, words)
    end
    words[#words + 1] = "env"
    local sets = {}
    for name, value in pairs(options.env or {}) do
        if value then
            sets[#sets + 1] = name .. "=" .. value
        else
            -- `env` wants its options before the assignments
            words[#words + 1] = "--unset=" .. name
        end
    end
    table.move(sets, 1, #sets, #words + 1, words)
    if options.args then
        words[#words + 1] = process.moonflow()
    end
    local command = options.args or options
    table.move(command, 1, #command, #words + 1, words)
    for i, word in ipairs(words) do
        words[i] = quote(word)
    end
    words[1] = "exec"

    local out, err = os.tmpname(), os.tmpname()
    local input = options.stdin and write_input(options.stdin)
    local line = ("%s <%s >%s 2>%s"):format(
        table.concat(words, " "), input and quote(input) or "/dev/null", quote(out), quote(err))
    if options.dir then
        line = "cd " .. quote(options.dir) .. " && " .. line
    end
    local _, how, code = os.execute(line)
    if input then
        os.remove(input)
    end
    return {
        code = code,
        signal = how == "signal" and code or nil,
        stdout = read_and_remove(out),
        stderr = read_and_remove(err),
    }
end

return process
