--- What a Databricks host says of itself at /.well-known/databricks-config. It is asked only by those
-- who can not go on without: a login with a personal token costs no request for it. That it can not
-- be read is no failure; it is then as if the host said nothing.
local grants = require "moonflow.grants"
local hosts = require "moonflow.databricks.hosts"
local sys = require "moonflow.sys"

local well_known = {}

local PATH = "/.well-known/databricks-config"
local DISCOVERY = "/.well-known/oauth-authorization-server"
local TIMEOUT = 3          -- seconds
local SILENCE_KEPT = 60    -- seconds that a host is not asked again after it said nothing
local ANSWER_KEPT = 3600   -- seconds
local TEXT_MAX = 2048      -- bytes

--- What hosts said, and until when that counts, by their URLs.
local kept = {}

local function text_of(value)
    return type(value) == "string" and value ~= "" and #value <= TEXT_MAX and not value:find("%c") and value or nil
end

--- The fields that are known, of those that are texts.
local function read(document)
    local audiences = document.token_federation_default_oidc_audiences
    return {
        account_id = text_of(document.account_id),
        workspace_id = text_of(document.workspace_id),
        oidc_endpoint = text_of(document.oidc_endpoint),
        audience = type(audiences) == "table" and text_of(audiences[1]) or nil,
    }
end

local function ask(found)
    local options = found.options
    local response = grants.ask {
        url = found.base .. PATH, headers = { Accept = "application/json" }, proxy = options.proxy,
        ca_file = options.ca_file, timeout = TIMEOUT, total_timeout = TIMEOUT, connect_timeout = TIMEOUT,
    }
    return response and grants.read_object(response, "what the host is")
end

--- What the workspace's host says; an empty table where that is nothing.
---@async
---@param found moonflow.DatabricksConfig
---@return table fields account_id, workspace_id, oidc_endpoint, audience, as far as they are there
function well_known.read(found)
    local entry = kept[found.base]
    if not entry or sys.monotonic() >= entry.ends then
        local document = ask(found)
        entry = {
            fields = document and read(document) or {},
            ends = sys.monotonic() + (document and ANSWER_KEPT or SILENCE_KEPT),
        }
        kept[found.base] = entry
    end
    return entry.fields
end

--- The discovery document that the host names, or nil where it names none that is in its own domain, or
--- one of an account and no account is known.
---@async
---@param found moonflow.DatabricksConfig
---@return string? address
function well_known.discovery(found)
    local fields = well_known.read(found)
    local account = found.values.account_id or fields.account_id
    local endpoint = fields.oidc_endpoint
    if not endpoint or endpoint:find("{account_id}", 1, true) and not account then
        return nil
    end
    local address = endpoint:gsub("{account_id}", function()
        return account
    end):gsub("/+$", "") .. DISCOVERY
    return hosts.may_know(address, found) and address or nil
end

--- Whom an ID token for the host is for, where that is not configured, or nil where it is for the token
--- endpoint.
---@async
---@param found moonflow.DatabricksConfig
---@return string?
function well_known.audience(found)
    local fields = well_known.read(found)
    local is_account = hosts.is_account(found) or next(fields) and not fields.workspace_id
    return fields.audience or is_account and (found.values.account_id or fields.account_id) or nil
end

return well_known
