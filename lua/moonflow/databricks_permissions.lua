--- Who may do what with a serving endpoint of Databricks. The API knows endpoints by their ids: where
-- only the name is given, the id is read first.
local check = require "moonflow.check"
local error = require "moonflow.error"
local json = require "moonflow.json"
local settings = require "moonflow.settings"
local url = require "moonflow.url"

local permissions = {}

local function url_of(self, path, segment)
    local address, err = url.join(settings.place(self).base .. path, segment)
    return address or error.raise(err)
end

local function id_of(self, args, operation)
    if args.endpoint_id then
        return args.endpoint_id
    elseif not args.endpoint then
        error.raise {
            kind = "usage",
            message = operation .. " needs the argument \"endpoint\", a name, or \"endpoint_id\"",
        }
    end
    local endpoint = self:send {
        method = "GET",
        url = url_of(self, "/api/2.0/serving-endpoints", args.endpoint),
        options = args.options,
    }
    local id = type(endpoint) == "table" and endpoint.id
    if type(id) ~= "string" or id == "" then
        error.raise {
            kind = "unsupported",
            message = ("the endpoint %s has no id, so nobody's permissions for it can be told or set"):format(
                check.show(args.endpoint)),
            hint = "endpoints that Databricks itself has, such as databricks-..., have none",
        }
    end
    return id
end

--- A method: one request for the permissions of an endpoint.
local function method(operation, verb, tail)
    permissions[operation] = function(self, args)
        local list = args.access_control_list
        return self:send {
            method = verb,
            url = url_of(self, "/api/2.0/permissions/serving-endpoints", id_of(self, args, operation)) .. tail,
            json = list and { access_control_list = next(list) == nil and json.array {} or list },
            options = args.options,
        }
    end
end

method("get_endpoint_permissions", "GET", "")
method("set_endpoint_permissions", "PUT", "")
method("update_endpoint_permissions", "PATCH", "")
method("get_endpoint_permission_levels", "GET", "/permissionLevels")

return permissions
