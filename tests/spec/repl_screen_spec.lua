--- What a person sees: the screen of a session in tmux, a terminal that marks pastes as such.
local process = require "support.process"
local serving = require "support.serving"
local skip = require "support.skip"
local terminal = require "support.terminal"

local Screen = {}
Screen.__index = Screen

local count = 0

local function quoted(word)
    return "'" .. word:gsub("'", "'\\''") .. "'"
end

function Screen:tmux(...)
    local words = { "tmux", "-L", self.socket, "-f", "/dev/null", ... }
    local result = process.run(words)
    assert(result.code == 0, result.stderr)
    return result.stdout
end

--- What is shown, without empty lines at the end.
function Screen:shown()
    return (self:tmux("capture-pane", "-p", "-t", "s"):gsub("%s+$", ""))
end

--- Presses keys, by tmux's names of them.
function Screen:press(...)
    self:tmux("send-keys", "-t", "s", ...)
end

--- Waits until the end of what is shown is this.
function Screen:wait(ending)
    local shown
    local ok = pcall(serving.eventually, function()
        shown = self:shown()
        return shown:sub(-#ending) == ending
    end, serving.is_slow() and 60 or 10)
    assert(ok, ("the screen does not end with %q:\n%s"):format(ending, shown))
    return shown
end

function Screen:__close()
    process.run { "tmux", "-L", self.socket, "kill-server" }
    self.home:__close()
end

--- A session on a screen of 60 x 16.
local function open(command)
    skip.unless(os.execute("command -v tmux >/dev/null"), "tmux is not there")
    count = count + 1
    local home = terminal.home()
    home.__close = getmetatable(home).__close
    local self = setmetatable({
        socket = ("moonflow-test-%s-%d"):format(home.path:match("[^/]+$"), count), home = home,
    }, Screen)
    local line = "env -u MLFLOW_DEPLOYMENTS_TARGET -u XDG_STATE_HOME NO_COLOR=1 LC_ALL=C.UTF-8 PS1='$ ' HOME="
        .. quoted(home.path) .. " " .. (command or quoted(process.moonflow()))
    self:tmux("new-session", "-d", "-s", "s", "-x", "60", "-y", "16", line)
    return self
end

describe("the screen of a session", function()
    it("has a pasted block as one edit, which runs at Enter", function()
        local screen <close> = open()
        screen:wait("leaves\n>")
        screen:tmux("set-buffer", "local n = 3\nfor i = 1, n do\n    print('line ' .. i)\nend")
        screen:tmux("paste-buffer", "-p", "-t", "s")
        screen:wait("> local n = 3\nfor i = 1, n do\n    print('line ' .. i)\nend")
        screen:press("Enter")
        screen:wait("\nend\nline 1\nline 2\nline 3\n>")
        screen:press("Up")
        screen:wait("> local n = 3\nfor i = 1, n do\n    print('line ' .. i)\nend")
        screen:press("Up", "Up", "Up", "C-e", " ", "-", " ", "1")
        screen:press("Enter")
        screen:wait("line 1\nline 2\n>")
    end)

    it("keeps a line that is longer than it is wide, and what stands above", function()
        local screen <close> = open()
        screen:wait("leaves\n>")
        local long = ("'0123456789' .. "):rep(6) .. "''"
        screen:press("-l", "task.spawn(function() task.sleep(1) print('from' .. ' behind') end);")
        screen:press("Enter")
        screen:press("-l", long)
        local shown = screen:wait("'0123456789' .. ''")
        assert.falsy(shown:find("from behind", 1, true))
        serving.eventually(function() return screen:shown():find("from behind", 1, true) end, 10)
        shown = screen:wait("'0123456789' .. ''")
        assert.equal(1, select(2, shown:gsub("> '0123456789' %.%. ", "")), shown)
        screen:press("Enter")
        screen:wait('"' .. ("0123456789"):rep(6):sub(1, 59) .. '\n9"\n>')
    end)

    it("has a new prompt below a block that Ctrl-C takes away", function()
        local screen <close> = open()
        screen:wait("leaves\n>")
        screen:press("-l", "for i = 1, 2 do")
        screen:press("Enter")
        screen:press("-l", "print(i)")
        screen:wait("> for i = 1, 2 do\nprint(i)")
        screen:press("C-c")
        screen:wait("> for i = 1, 2 do\nprint(i)\n>")
    end)

    it("comes back from a suspension with the line as it was", function()
        local screen <close> = open("bash --norc -i")
        screen:wait("$")
        screen:press("-l", "clear; " .. quoted(process.moonflow()))
        screen:press("Enter")
        screen:wait("leaves\n>")
        screen:press("-l", "'typed'")
        screen:wait("> 'typed'")
        screen:press("C-z")
        serving.eventually(function() return screen:shown():find("Stopped", 1, true) end, 10)
        screen:press("-l", "fg")
        screen:press("Enter")
        screen:wait("> 'typed'")
        screen:press("Enter")
        screen:wait("\"typed\"\n>")
        screen:press("C-d")
        screen:wait("$")
    end)
end)
