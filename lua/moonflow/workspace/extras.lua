--- What the Databricks face tells besides an endpoint's state: logs, metrics, a schema, permissions.
local json = require "moonflow.json"
local reply = require "moonflow.workspace.reply"

local refuse = reply.refuse

local extras = {}

local ENTRIES_MAX = 100
local WORD_MAX = 256 -- bytes
local PRINCIPALS = { "user_name", "group_name", "service_principal_name" }
local LEVELS = {
    { "CAN_VIEW", "Can view the endpoint" },
    { "CAN_QUERY", "Can query the endpoint" },
    { "CAN_MANAGE", "Can manage the endpoint" },
}

--- The entity of a name, in what serves or in what is on the way to it.
local function entity_of(endpoint, name)
    for _, config in ipairs { endpoint.pending or {}, endpoint.active or {} } do
        if config.by_name and config.by_name[name] then
            return config.by_name[name], config
        end
    end
    return refuse("RESOURCE_DOES_NOT_EXIST", "The endpoint '%s' has no served model with the name '%s'.",
        endpoint.name, name)
end

--- The log of a build.
function extras.build_logs(endpoint, name)
    local _, config = entity_of(endpoint, name)
    local last = config.failure or "no image is built here: moonflow serve answers by simple rules"
    return reply.ok { logs = ("version %d of %s\n%s\n"):format(config.version, name, last) }
end

--- The log of a served model.
function extras.logs(endpoint, name)
    local entity = entity_of(endpoint, name)
    return reply.ok { logs = ("%s has answered %d queries\n"):format(name, entity.asked or 0) }
end

--- What an endpoint has answered, in the format of Prometheus.
function extras.metrics(endpoint)
    local lines = {
        "# HELP request_count_total Queries that were taken", "# TYPE request_count_total counter",
    }
    for _, entity in ipairs(endpoint.active and endpoint.active.entities or {}) do
        lines[#lines + 1] = ('request_count_total{endpoint_name="%s",served_model="%s"} %d'):format(
            endpoint.name, (entity.name:gsub('[\\"%c]', "_")), entity.asked or 0)
    end
    return 200, { ["Content-Type"] = "text/plain; charset=utf-8" }, table.concat(lines, "\n") .. "\n"
end

--- The OpenAPI schema of an endpoint: where it is asked, and with what.
function extras.openapi(endpoint, base)
    local FIELDS = {
        ["llm/v1/chat"] = "messages", ["llm/v1/completions"] = "prompt", ["llm/v1/embeddings"] = "input",
    }
    local field = FIELDS[endpoint.task]
    local body = { type = "object" }
    if field then
        body.required, body.properties = json.array { field }, { [field] = {} }
    end
    return reply.ok {
        openapi = "3.1.0",
        info = { title = endpoint.name, version = tostring(endpoint.version) },
        servers = json.array { { url = ("%s/serving-endpoints/%s"):format(base, endpoint.name) } },
        paths = { ["/invocations"] = { post = {
            requestBody = { content = { ["application/json"] = { schema = body } } },
            responses = { ["200"] = { description = "an answer" } },
        } } },
    }
end

--- The levels that there are.
function extras.permission_levels()
    local list = json.array {}
    for i, level in ipairs(LEVELS) do
        list[i] = { permission_level = level[1], description = level[2] }
    end
    return reply.ok { permission_levels = list }
end

local function read_entry(given, where)
    local entry = {}
    for _, name in ipairs(PRINCIPALS) do
        local value = type(given) == "table" and given[name]
        if type(value) == "string" and #value <= WORD_MAX and not entry.field then
            entry.field, entry.value = name, value
        end
    end
    for _, level in ipairs(LEVELS) do
        entry.level = type(given) == "table" and given.permission_level == level[1] and level[1] or entry.level
    end
    if not entry.field or not entry.level then
        refuse("INVALID_PARAMETER_VALUE", "%s needs one of %s, and a permission_level of CAN_VIEW, CAN_QUERY and "
            .. "CAN_MANAGE", where, table.concat(PRINCIPALS, ", "))
    end
    return entry
end

--- Who may do what with an endpoint. It is kept, and asked by nobody: whoever is let in may do everything.
function extras.permissions(endpoint)
    local list = json.array {}
    for i, entry in ipairs(endpoint.access) do
        list[i] = {
            [entry.field] = entry.value,
            all_permissions = json.array { { permission_level = entry.level, inherited = false } },
        }
    end
    return reply.ok {
        object_id = "/serving-endpoints/" .. endpoint.id, object_type = "serving-endpoint",
        access_control_list = list,
    }
end

--- Sets who may do what, or adds to it.
---@param endpoint table
---@param body table
---@param adds boolean
function extras.set_permissions(endpoint, body, adds)
    local given = body.access_control_list
    if type(given) ~= "table" or not json.is_array(given) then
        refuse("INVALID_PARAMETER_VALUE", "access_control_list must be a list")
    end
    local entries = adds and { table.unpack(endpoint.access) } or {}
    for i, one in ipairs(given) do
        local entry = read_entry(one, ("access_control_list[%d]"):format(i - 1))
        for place = #entries, 1, -1 do
            if entries[place].field == entry.field and entries[place].value == entry.value then
                table.remove(entries, place)
            end
        end
        entries[#entries + 1] = entry
    end
    if #entries > ENTRIES_MAX then
        refuse("INVALID_PARAMETER_VALUE", "access_control_list may have %d entries", ENTRIES_MAX)
    end
    endpoint.access = entries
    return extras.permissions(endpoint)
end

return extras
