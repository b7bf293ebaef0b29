--- What is configured for a Databricks workspace: attributes out of options, variables and a profile of
-- the configuration file. Each keeps its source, so that errors can name it.
--
-- What is given as options, or by a profile that somebody names, is taken alone: credentials that
-- lie about in the environment are not for it. Without either, variables and the file are merged as
-- in Databricks' SDKs.
local auth = require "moonflow.auth"
local check = require "moonflow.check"
local env = require "moonflow.env"
local error = require "moonflow.error"
local hosts = require "moonflow.databricks.hosts"
local model_serving = require "moonflow.databricks.model_serving"
local notice = require "moonflow.notice"
local sys = require "moonflow.sys"
local text = require "moonflow.text"

local config = {}

--- One thing that can be configured. The key is its name in the file and, where there is an option
-- for it, there.
---@class moonflow.DatabricksAttribute
---@field key string
---@field variables string[] the first one that is set counts
---@field group? string the kind of login that it is for: two kinds at once are a conflict
---@field secret? boolean
---@field shared? boolean says nothing about who logs in: its variable counts beside options and profiles

---@type moonflow.DatabricksAttribute[]
config.attributes = {
    { key = "host", variables = { "DATABRICKS_HOST" } },
    { key = "account_id", variables = { "DATABRICKS_ACCOUNT_ID" } },
    { key = "workspace_id", variables = { "DATABRICKS_WORKSPACE_ID" } },
    { key = "cloud", variables = { "DATABRICKS_CLOUD" } },
    { key = "discovery_url", variables = { "DATABRICKS_DISCOVERY_URL" } },
    { key = "token", variables = { "DATABRICKS_TOKEN" }, group = "pat", secret = true },
    { key = "username", variables = { "DATABRICKS_USERNAME" }, group = "basic" },
    { key = "password", variables = { "DATABRICKS_PASSWORD" }, group = "basic", secret = true },
    { key = "client_id", variables = { "DATABRICKS_CLIENT_ID" }, group = "oauth" },
    { key = "client_secret", variables = { "DATABRICKS_CLIENT_SECRET" }, group = "oauth", secret = true },
    { key = "auth_type", variables = { "DATABRICKS_AUTH_TYPE" } },
    { key = "scopes", variables = {} },
    { key = "token_audience", variables = { "DATABRICKS_TOKEN_AUDIENCE" } },
    { key = "oidc_token_env", variables = { "DATABRICKS_OIDC_TOKEN_ENV" }, group = "env-oidc" },
    {
        key = "oidc_token_filepath", variables = { "DATABRICKS_OIDC_TOKEN_FILEPATH", "DATABRICKS_OIDC_TOKEN_FILE" },
        group = "file-oidc",
    },
    {
        key = "metadata_service_url", variables = { "DATABRICKS_METADATA_SERVICE_URL" }, group = "metadata-service",
    },
    { key = "azure_workspace_resource_id", variables = { "DATABRICKS_AZURE_RESOURCE_ID" }, group = "azure" },
    { key = "azure_use_msi", variables = { "ARM_USE_MSI" }, group = "azure" },
    { key = "azure_client_id", variables = { "ARM_CLIENT_ID" }, group = "azure" },
    { key = "azure_client_secret", variables = { "ARM_CLIENT_SECRET" }, group = "azure" },
    { key = "azure_tenant_id", variables = { "ARM_TENANT_ID" }, group = "azure" },
    { key = "azure_environment", variables = { "ARM_ENVIRONMENT" }, shared = true },
    { key = "databricks_cli_path", variables = { "DATABRICKS_CLI_PATH" }, shared = true },
    { key = "actions_id_token_request_url", variables = { "ACTIONS_ID_TOKEN_REQUEST_URL" }, shared = true },
    { key = "actions_id_token_request_token", variables = { "ACTIONS_ID_TOKEN_REQUEST_TOKEN" }, shared = true,
        secret = true },
}

--- Keys that other programs keep in a profile: no misspelt ones of ours.
local FOREIGN = {
    "cluster_id", "warehouse_id", "serverless_compute_id", "http_timeout_seconds", "retry_timeout_seconds",
    "debug_truncate_bytes", "debug_headers", "rate_limit", "google_credentials", "google_service_account",
    "azure_login_app_id", "default_profile", "auth_storage", "jobs-api-version", "insecure", "skip_verify",
}

local FILE = ".databrickscfg"
local SETTINGS = "__settings__"

-- The file's name for the path of a token differs between the SDKs.
local ALIASES = { databricks_id_token_filepath = "oidc_token_filepath", audience = "token_audience" }

local SECRET_KEYS, known = {}, {}
for _, attribute in ipairs(config.attributes) do
    known[attribute.key] = attribute
    SECRET_KEYS[attribute.key] = attribute.secret
end
for alias, key in pairs(ALIASES) do
    known[alias] = known[key]
end

--- What is configured.
---@class moonflow.DatabricksConfig
---@field values table<string, any> by key
---@field sources table<string, string> by key, for messages: "DATABRICKS_HOST", "PATH:12", "the option host"
---@field source string what host and token come from, for messages
---@field profile? string
---@field path string of the configuration file
---@field base? string URL of the workspace
---@field origin? string
---@field options table the client's options, for proxies and the like

local function set(found, key, value, source)
    if found.values[key] == nil then
        found.values[key], found.sources[key] = value, source
    end
end

--- The variable of an attribute that is set, and its value.
local function variable_of(attribute)
    for _, name in ipairs(attribute.variables) do
        if env[name] and env[name] ~= "" then
            return name, env[name]
        end
    end
end

local function path_of_file()
    local path = env.DATABRICKS_CONFIG_FILE
    if not path or path == "" then
        return (env.HOME or "") .. "/" .. FILE
    elseif path:find("^~/") then
        return (env.HOME or "") .. path:sub(2)
    end
    return path
end

local function no_profile(path, name, why)
    local hint
    local sections = auth.ini_sections(path, true)
    if sections and sections[1] then
        local names = {}
        for _, section in ipairs(sections) do
            names[#names + 1] = section ~= SETTINGS and text.one_line(section, 100) or nil
        end
        local near = check.nearest(name, names)
        hint = near and ("did you mean %s?"):format(near)
            or names[1] and "it has " .. table.concat(names, ", ", 1, math.min(#names, 20))
    end
    error.raise {
        kind = "config",
        error_code = "RESOURCE_DOES_NOT_EXIST",
        message = ("%s has no %s profile configured: %s"):format(path, name, why:format(name)),
        hint = hint,
    }
end

local function read_section(path, name)
    local values, lines = auth.read_ini(path, name, SECRET_KEYS, true)
    if values then
        return values, lines
    elseif lines.error_code == "RESOURCE_DOES_NOT_EXIST" then
        return nil
    end
    return error.raise(lines)
end

--- The profile that the file itself names as its default.
local function default_profile(path)
    local values, lines = read_section(path, SETTINGS)
    local name = values and values.default_profile and text.trim(values.default_profile)
    if name and name ~= "" then
        return name, ("%s:%d"):format(path, lines.default_profile)
    end
end

local function warn_of_key(key, line, path)
    local names = check.sorted_keys(known)
    table.move(FOREIGN, 1, #FOREIGN, #names + 1, names)
    for _, name in ipairs(FOREIGN) do
        if name == key then
            return
        end
    end
    local near = #key <= 40 and check.nearest(key, names)
    if near then
        notice.once(("%s:%d: %s is no attribute; did you mean %s?"):format(path, line, check.show(key), near))
    end
end

--- Adds the values of a profile that are not there yet, but none of kinds of login where `only_place`.
-- Returns the profile's name, or nil where there is none and nobody asked for one.
local function add_profile(found, name, only_place)
    local path = found.path
    local asked = name ~= nil
    if name == nil then
        if not sys.stat(path) then
            return nil
        end
        name = default_profile(path)
        asked = name ~= nil
    end
    name = name or "DEFAULT"
    if name == SETTINGS then
        error.raise {
            kind = "config",
            message = ("%s: %s is a reserved section name and cannot be used as a profile"):format(path, SETTINGS),
        }
    end
    local values, lines = read_section(path, name)
    if not values or not next(values) then
        if asked then
            no_profile(path, text.one_line(name, 200), values and "the section [%s] is empty"
                or "it has no section [%s]")
        end
        return nil
    end
    for key, value in pairs(values) do
        local attribute = known[key]
        if not attribute then
            warn_of_key(key, lines[key], path)
        elseif value ~= "" and not (only_place and attribute.group) then
            set(found, attribute.key, value, ("%s:%d"):format(path, lines[key]))
        end
    end
    return name
end

--- Says which variables are not used, because what they are for was named in another way.
local function warn_of_stray(found, why)
    local names = {}
    for _, attribute in ipairs(config.attributes) do
        local name = (attribute.group or attribute.key == "host") and variable_of(attribute)
        if name and found.sources[attribute.key] ~= name then
            names[#names + 1] = name
        end
    end
    if names[1] then
        notice.once(("%s not used: %s"):format(table.concat(names, ", "), why))
    end
end

local function add_variables(found, only_shared)
    local has_login = false
    for _, attribute in ipairs(config.attributes) do
        local name, value = variable_of(attribute)
        if name and (attribute.shared or not only_shared) then
            set(found, attribute.key, attribute.secret and auth.secret(value) or value, name)
            has_login = has_login or attribute.group ~= nil or attribute.key == "host"
        end
    end
    return has_login
end

--- Adds options. Returns whether one of them is about who logs in, and whether one says where.
local function add_options(found, options)
    local has_login, has_place = false, false
    for _, attribute in ipairs(config.attributes) do
        local value = options[attribute.key]
        if value ~= nil then
            set(found, attribute.key, value, "the option " .. attribute.key)
            has_login = has_login or attribute.group ~= nil
            has_place = has_place or attribute.key == "host"
        end
    end
    return has_login, has_place
end

local function merge(found, options, profile)
    local has_login, has_place = add_options(found, options)
    if has_login or has_place then
        found.source = "the options host and token"
        if profile then
            found.profile = add_profile(found, profile, has_login)
        end
        add_variables(found, true)
        warn_of_stray(found, "options of the client say who logs in")
        return
    elseif profile then
        found.profile = add_profile(found, profile)
        found.source = ("profile %s of %s"):format(profile, found.path)
        add_variables(found, true)
        warn_of_stray(found, ("the profile %s says who logs in"):format(profile))
        return
    end
    local any = add_variables(found, false)
    local named = env.DATABRICKS_CONFIG_PROFILE
    named = named ~= "" and named or nil
    found.source = "DATABRICKS_HOST and DATABRICKS_TOKEN"
    if named or not any then
        found.profile = add_profile(found, named)
        if not any then
            found.source = ("profile %s of %s"):format(found.profile or named or "DEFAULT", found.path)
        else
            found.source = ("DATABRICKS_HOST, DATABRICKS_TOKEN and profile %s of %s"):format(named, found.path)
        end
    end
end

--- Two kinds of login at once, where nothing says which of them counts.
local function refuse_conflict(found)
    local groups, lines = {}, {}
    for _, attribute in ipairs(config.attributes) do
        local source = attribute.group and found.sources[attribute.key]
        if source then
            groups[attribute.group] = true
            lines[#lines + 1] = ("  %s (%s): %s"):format(attribute.key, attribute.group, source)
        end
    end
    local names = check.sorted_keys(groups)
    if #names > 1 and not found.values.auth_type then
        error.raise {
            kind = "config",
            message = ("validate: more than one authorization method configured: %s\n%s"):format(
                table.concat(names, " and "), table.concat(lines, "\n")),
            hint = "unset all but one, or set DATABRICKS_AUTH_TYPE",
        }
    end
end

--- Reads what is configured. Raises kind "config" where it can not be read or contradicts itself.
---@param options table the client's
---@param profile? string that the target or an option names
---@return moonflow.DatabricksConfig
function config.read(options, profile)
    local found = { values = {}, sources = {}, path = path_of_file(), options = options }
    merge(found, options, profile)
    local values = found.values
    if type(values.azure_client_secret) == "string" then
        auth.secret(values.azure_client_secret) -- so that no message shows it
    end
    refuse_conflict(found)
    if not values.host then
        local host, source = model_serving.host()
        set(found, "host", host, source)
    end
    if values.host then
        config.set_host(found, values.host, found.sources.host)
    end
    return found
end

--- Sets where the workspace is. Raises kind "config" where that is no host.
---@param found moonflow.DatabricksConfig
---@param host string
---@param source string
function config.set_host(found, host, source)
    local promoted
    found.base, found.origin, promoted = hosts.read(host, source)
    for key, value in pairs(promoted) do
        set(found, key, value, source)
    end
end

--- The scopes that are asked for, in order and with spaces between.
---@param found moonflow.DatabricksConfig
---@return string
function config.scopes(found)
    local names, seen = {}, {}
    for name in (found.values.scopes or ""):gmatch("[^, ]+") do
        if not seen[name] then
            seen[name] = true
            names[#names + 1] = name
        end
    end
    table.sort(names)
    return names[1] and table.concat(names, " ") or "all-apis"
end

local YES = { ["1"] = true, t = true, ["true"] = true }

--- Whether a value says yes, as Go's programs read it.
---@param value any
---@return boolean
function config.is_true(value)
    return value == true or type(value) == "string" and YES[value:lower()] == true
end

local SHOWN_MAX = 200 -- bytes of a value in a message

--- Lines that say what is configured and where each value came from. Secrets are not shown.
---@param found moonflow.DatabricksConfig
---@return string[]
function config.describe(found)
    local lines = {}
    for _, attribute in ipairs(config.attributes) do
        local value = found.values[attribute.key]
        if value ~= nil then
            local hidden = attribute.secret or attribute.key == "azure_client_secret"
            lines[#lines + 1] = ("%s = %s, from %s"):format(attribute.key,
                hidden and "<redacted>" or text.one_line(tostring(value), SHOWN_MAX), found.sources[attribute.key])
        end
    end
    return lines
end

return config
