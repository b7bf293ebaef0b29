--- The texts of help(x) and ,doc x: clients' methods from their signatures, functions of the modules
-- from the table here.
local client = require "moonflow.client"
local names = require "moonflow.repl.names"
local show = require "moonflow.show"

local docs = {}

-- An example for each method of a client that one is likely to look for.
local EXAMPLES = {
    predict = [[client:predict { endpoint = "chat", inputs = { messages = messages } }]],
    predict_stream = [[for chunk in client:predict_stream { endpoint = "chat", inputs = { prompt = "Once" } } do
    io.write(chat.text(chunk))
end]],
    list_endpoints = [[for _, e in ipairs(client:list_endpoints()) do print(e.name) end]],
    get_endpoint = [[client:get_endpoint { endpoint = "chat" }]],
    create_endpoint = [[client:create_endpoint { name = "chat", config = { served_entities = { ... } } }]],
    update_endpoint = [[client:update_endpoint { endpoint = "chat", config = { ... } }]],
    delete_endpoint = [[client:delete_endpoint { endpoint = "chat" }]],
    create_deployment = [[client:create_deployment { name = "iris", model_uri = "models:/iris/3" }]],
    update_deployment = [[client:update_deployment { name = "iris", model_uri = "models:/iris/4" }]],
    delete_deployment = [[client:delete_deployment { name = "iris" }]],
    list_deployments = [[client:list_deployments()]],
    get_deployment = [[client:get_deployment { name = "iris" }]],
}

-- Functions of modules: signature, text, example.
local FUNCTIONS = {
    ["deployments.get_deploy_client"] = {
        "deployments.get_deploy_client(target?, options?)",
        "A client for a target; without one, that of get_deployments_target. Needs no network.",
        [[client = deployments.get_deploy_client("http://localhost:5000")]],
    },
    ["deployments.set_deployments_target"] = {
        "deployments.set_deployments_target(target)", "Sets the target that is used where none is named.",
        [[deployments.set_deployments_target("databricks")]],
    },
    ["deployments.get_deployments_target"] = {
        "deployments.get_deployments_target()", "The target that is used where none is named.",
        [[deployments.get_deployments_target()]],
    },
    ["deployments.list_targets"] = {
        "deployments.list_targets()", "All targets there are: built-in ones and plugins.",
        [[for _, t in ipairs(deployments.list_targets()) do print(t.name) end]],
    },
    ["deployments.target_help"] = {
        "deployments.target_help(target)", "How targets of this kind are written and what they can do.",
        [[print(deployments.target_help("openai"))]],
    },
    ["deployments.run_local"] = {
        "deployments.run_local(target, name, model_uri, flavor?, config?)",
        "Serves a model on this machine, where the target can do that.",
        [[deployments.run_local("sagemaker", "iris", "models:/iris/3")]],
    },
    ["task.spawn"] = {
        "task.spawn(fn, ...)",
        "Starts fn(...) as a task, which runs behind the prompt. Methods: wait, cancel, status.",
        [[t = task.spawn(function() return client:predict { ... } end)]],
    },
    ["task.map"] = {
        "task.map(list, fn, options?)", "Calls fn(item, index) for each item, at most options.limit (16) at once.",
        [[task.map(questions, ask, { limit = 8 })]],
    },
    ["task.all"] = {
        "task.all(list)", "Runs functions at once and waits for all of them.", [[task.all { first, second }]],
    },
    ["task.sleep"] = { "task.sleep(seconds)", "Waits, while other tasks run.", [[task.sleep(0.5)]] },
    ["task.timeout"] = {
        "task.timeout(seconds, fn, ...)", "Calls fn(...) for so many seconds at the most.",
        [[task.timeout(5, function() return client:list_endpoints() end)]],
    },
    ["chat.text"] = {
        "chat.text(chunk)", "The text that a chunk of a stream adds, always a string.",
        [[for chunk in stream do io.write(chat.text(chunk)) end]],
    },
    ["chat.collect"] = {
        "chat.collect(stream)", "Reads a stream to its end: the whole answer in the form of predict.",
        [[answer = chat.collect(client:predict_stream { endpoint = "chat", inputs = inputs })]],
    },
    ["json.encode"] = { "json.encode(value)", "JSON text of a value, or nil and an error.", [[json.encode { a = 1 }]] },
    ["json.decode"] = {
        "json.decode(text)", "The value of JSON text, or nil and an error.", [[json.decode "[1, 2]"]],
    },
    ["json.array"] = { "json.array(list)", "Marks a table as an array, for empty ones.", [[json.array {}]] },
}

local function entry_text(signature, doc, lines, example)
    local text = { signature, "  " .. doc }
    for _, line in ipairs(lines or {}) do
        text[#text + 1] = line
    end
    if example then
        text[#text + 1] = "example:"
        text[#text + 1] = "  " .. example:gsub("\n", "\n  ")
    end
    return table.concat(text, "\n")
end

--- The text of a client's method.
local function method_text(signature)
    local params, lines = {}, {}
    local widest = 0
    for _, param in ipairs(signature.params) do
        widest = math.max(widest, #param.name)
    end
    for i, param in ipairs(signature.params) do
        params[i] = param.name .. (param.required and "" or "?")
        local space = (" "):rep(widest - #param.name)
        local required = param.required and " (required)" or ""
        lines[i] = ("    %s%s  %s%s"):format(param.name, space, param.doc, required)
    end
    local list = #params > 0 and (" %s "):format(table.concat(params, ", ")) or ""
    return entry_text(("client:%s {%s}"):format(signature.name, list), signature.doc, lines,
        EXAMPLES[signature.name])
end

docs.method_text = method_text

--- The signature of a method, where a function is one of this class.
local function signature_of(class, value)
    local signatures = names.field(class, "signatures")
    for _, signature in ipairs(type(signatures) == "table" and signatures or {}) do
        if names.field(class, signature.name) == value then
            return signature
        end
    end
end

--- The name of a function of a module, where it is one that is described.
local function function_name(value)
    for name in next, FUNCTIONS do
        local module, field = name:match("^(.-)%.(.*)$")
        local loaded = package.loaded["moonflow." .. module]
        if loaded and rawget(loaded, field) == value then
            return name
        end
    end
end

--- What can be said of a client, or another table.
local function table_text(value)
    local signatures = names.field(value, "signatures")
    if type(signatures) ~= "table" or type(rawget(value, "target_uri")) ~= "string" then
        return nil
    end
    local lines = { show.text(tostring(value)) }
    local offered = {}
    for _, name in ipairs(client.offered(value)) do
        offered[name] = true
    end
    for _, signature in ipairs(signatures) do
        if offered[signature.name] then
            lines[#lines + 1] = ("  %-24s %s"):format(signature.name, signature.doc:match("^[^\n]*"))
        end
    end
    lines[#lines + 1] = "  ,doc client.METHOD tells more"
    return table.concat(lines, "\n")
end

local GENERAL = ",help shows the commands and keys; help(x) or ,doc x tells of a value, such as help(client.predict)"

--- The text of help(value).
---@param session table
---@param value any
---@return string
function docs.of_value(session, value)
    if value == nil then
        return GENERAL
    elseif type(value) == "function" then
        local signature = signature_of(rawget(session.env, "client"), value)
            or signature_of(client.BaseDeploymentClient, value)
        local name = function_name(value)
        if signature then
            return method_text(signature)
        elseif name then
            return entry_text(FUNCTIONS[name][1], FUNCTIONS[name][2], nil, FUNCTIONS[name][3])
        end
        local info = debug.getinfo(value, "Su")
        local params = {}
        for i = 1, info.nparams do
            params[i] = debug.getlocal(value, i)
        end
        params[#params + 1] = info.isvararg and "..." or nil
        return ("function(%s)\n  %s"):format(table.concat(params, ", "),
            info.what == "C" and "built in" or ("%s:%d"):format(info.short_src, info.linedefined))
    end
    return type(value) == "table" and table_text(value) or ("a %s: %s"):format(type(value), show.value(value,
        { depth = 1, items = 10, text = 200 }))
end

--- The text of `,doc NAME`.
---@param session table
---@param name string
---@return string? nil where nothing has that name
function docs.of_name(session, name)
    local path = name:gsub(":", ".")
    local described = FUNCTIONS[path]
    if described then
        return entry_text(described[1], described[2], nil, described[3])
    end
    local value = session:lookup(path)
    if value ~= nil then
        return docs.of_value(session, value)
    end
    local signature = client.BaseDeploymentClient.signatures[path:match("[%w_]+$") or ""]
    return signature and method_text(signature)
end

return docs
