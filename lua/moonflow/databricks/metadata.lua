--- A metadata service on this machine that gives tokens, such as that of an editor's extension.
local grants = require "moonflow.grants"
local url = require "moonflow.url"

local metadata = {}

local TIMEOUT = 10 -- seconds

--- A token of the service.
---@async
---@param found moonflow.DatabricksConfig
---@return table? token
---@return table? err
function metadata.token(found)
    local address = found.values.metadata_service_url
    local parts = url.parse(address)
    if not parts then
        return nil, grants.failure("config", "the metadata_service_url of %s is no URL",
            found.sources.metadata_service_url)
    elseif not url.is_loopback(parts.host) then
        return nil, grants.failure("config", "the metadata_service_url of %s is not on this machine: only localhost "
            .. "URLs are allowed", found.sources.metadata_service_url)
    end
    local response, err = grants.ask {
        url = address,
        headers = {
            ["X-Databricks-Metadata-Version"] = "1", ["X-Databricks-Host"] = found.base, Accept = "application/json",
        },
        proxy = "",
        timeout = TIMEOUT,
        total_timeout = TIMEOUT,
    }
    if not response then
        return nil, err
    end
    return grants.read_answer(response)
end

return metadata
