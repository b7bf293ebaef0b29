--- What the gateway says of its endpoints: lists in pages, single descriptions, and a page for people.
local base64 = require "moonflow.base64"
local json = require "moonflow.json"
local text = require "moonflow.text"

local null = json.null

local pages = {}

local PAGE_SIZE = 3000 -- endpoints, as MLflow's
local QUERY_MAX = 4096 -- bytes
local TOKEN_MAX = 256  -- bytes
local WORDS_MAX = 60   -- bytes of a model's name on the page for people

--- An endpoint as MLflow's clients see it; or in the form of the routes that MLflow has given up.
local function description(endpoint, what)
    local limit = endpoint.limit
    return {
        name = endpoint.name,
        [what .. "_type"] = endpoint.endpoint_type,
        model = { name = endpoint.model.name, provider = endpoint.model.provider },
        [what .. "_url"] = "/gateway/" .. endpoint.name .. "/invocations",
        limit = limit and { calls = limit.calls, key = limit.key or null, renewal_period = limit.renewal_period }
            or null,
    }
end

--- One endpoint as JSON.
---@param endpoint table
---@param what "endpoint"|"route"
---@return string
function pages.describe(endpoint, what)
    return assert(json.encode(description(endpoint, what)))
end

--- An endpoint as OpenAI's clients see it.
---@param endpoint table
---@param created integer seconds since 1970
---@return table
function pages.model(endpoint, created)
    return { id = endpoint.name, object = "model", created = created, owned_by = endpoint.model.provider }
end

--- The text behind percent signs; one that is no two digits is a percent sign.
---@param encoded string
---@return string
function pages.decode(encoded)
    return (encoded:gsub("%%(%x%x)", function(digits)
        return string.char(tonumber(digits, 16))
    end))
end

--- The token in a query; the last one where there are more, as in MLflow's gateway.
local function token_in(query)
    local token
    for given in ("&" .. query):gmatch("&page_token=([^&]*)") do
        token = given
    end
    return token and pages.decode((token:gsub("+", " ")))
end

--- How many endpoints stand before the page of a token; nil where it is no token.
local function first_of(query)
    if not query then
        return 0
    elseif #query > QUERY_MAX then
        return nil
    end
    local token = token_in(query)
    if not token then
        return 0
    end
    local plain = #token <= TOKEN_MAX and base64.decode(token)
    local decoded = plain and json.decode(plain)
    local index = type(decoded) == "table" and decoded.index
    return math.type(index) == "integer" and index >= 0 and index or nil
end

--- A page of the list as JSON; nil where the query has a token that is none.
---@param endpoints table[]
---@param what "endpoint"|"route"
---@param query? string as it came
---@return string?
function pages.list(endpoints, what, query)
    local first = first_of(query)
    if not first then
        return nil
    end
    first = math.min(first, #endpoints)
    local items, last = json.array {}, first + PAGE_SIZE
    for i = first + 1, math.min(last, #endpoints) do
        items[#items + 1] = description(endpoints[i], what)
    end
    return assert(json.encode {
        [what .. "s"] = items,
        next_page_token = last < #endpoints and base64.encode(('{"index": %d}'):format(last)) or null,
    })
end

--- The page for people.
---@param endpoints table[]
---@return string
function pages.front(endpoints)
    local lines = {
        "This is moonflow's deployments server. MLflow's clients take its address as their target, OpenAI's clients",
        "the same with /v1 behind it, and an endpoint's name as the model.",
        "",
        "    /health",
        "    /api/2.0/endpoints/",
        "    /v1/models",
    }
    for i, endpoint in ipairs(endpoints) do
        if i > PAGE_SIZE then
            lines[#lines + 1] = ("    and %d more"):format(#endpoints - PAGE_SIZE)
            break
        end
        lines[#lines + 1] = ("    %-44s %-20s %s"):format("/gateway/" .. endpoint.name .. "/invocations",
            endpoint.endpoint_type, text.one_line(endpoint.model.name, WORDS_MAX))
    end
    return table.concat(lines, "\n") .. "\n"
end

return pages
