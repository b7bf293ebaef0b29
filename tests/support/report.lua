--- busted's output: what failed, what was skipped and why, and one line of counts.
return function()
    local busted = require "busted"
    local report = require "busted.outputHandlers.base"()

    local function place(test)
        local trace = test.trace or test.element.trace or {}
        return ("%s:%s: %s"):format(trace.short_src or "?", trace.currentline or "?", test.name)
    end

    local function text(test)
        local message = test.message
        if type(message) == "table" and not (getmetatable(message) or {}).__tostring then
            message = message.message or require("pl.pretty").write(message)
        end
        return tostring(message == nil and "no message" or message)
    end

    local function indented(lines)
        return (("\n" .. lines):gsub("\n", "\n    "))
    end

    local function show_failure(test)
        io.stdout:write("FAILED ", place(test), indented(text(test)), "\n")
        local traceback = test.trace and test.trace.traceback
        if test.isError and type(traceback) == "string" then
            io.stdout:write(indented(traceback:gsub("^\n", "")):sub(2), "\n")
        end
    end

    busted.subscribe({ "suite", "end" }, function()
        for _, test in ipairs(report.pendings) do
            io.stdout:write("SKIPPED ", place(test), ": ", text(test), "\n")
        end
        for _, tests in ipairs { report.failures, report.errors } do
            for _, test in ipairs(tests) do
                show_failure(test)
            end
        end
        io.stdout:write(("%d passed, %d failed, %d skipped\n"):format(
            report.successesCount, report.failuresCount + report.errorsCount, report.pendingsCount))
        io.stdout:flush()
        return nil, true
    end)

    return report
end
