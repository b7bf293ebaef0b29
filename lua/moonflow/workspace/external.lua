--- External models of a served entity: which providers there are, what is said of them, and what is secret.
-- Secrets that are given in plain text are dropped here: nothing keeps them, and no answer has them.
local check = require "moonflow.check"
local reply = require "moonflow.workspace.reply"

local refuse = reply.refuse

local external = {}

local TEXT_MAX = 1024 -- bytes of a field
local REFERENCE = "^{{secrets/[^/{}%s]+/[^/{}%s]+}}$"

external.TASKS = { ["llm/v1/chat"] = true, ["llm/v1/completions"] = true, ["llm/v1/embeddings"] = true }

--- Of each provider: the field that configures it, its plain fields, those that must be there, its secrets, and
-- fields of which one must be there.
local PROVIDERS = {
    openai = {
        key = "openai_config",
        fields = {
            "openai_api_base", "openai_api_type", "openai_api_version", "openai_deployment_name",
            "openai_organization", "microsoft_entra_client_id", "microsoft_entra_tenant_id",
        },
        secrets = { "openai_api_key", "microsoft_entra_client_secret" },
        one_of = { "openai_api_key", "microsoft_entra_client_secret" },
    },
    anthropic = { key = "anthropic_config", secrets = { "anthropic_api_key" }, one_of = { "anthropic_api_key" } },
    cohere = {
        key = "cohere_config", fields = { "cohere_api_base" }, secrets = { "cohere_api_key" },
        one_of = { "cohere_api_key" },
    },
    ai21labs = { key = "ai21labs_config", secrets = { "ai21labs_api_key" }, one_of = { "ai21labs_api_key" } },
    palm = { key = "palm_config", secrets = { "palm_api_key" }, one_of = { "palm_api_key" } },
    ["amazon-bedrock"] = {
        key = "amazon_bedrock_config",
        fields = { "aws_region", "bedrock_provider", "instance_profile_arn", "uc_service_credential_name" },
        needed = { "aws_region", "bedrock_provider" },
        secrets = { "aws_access_key_id", "aws_secret_access_key" },
        one_of = { "aws_secret_access_key", "instance_profile_arn", "uc_service_credential_name" },
    },
    ["google-cloud-vertex-ai"] = {
        key = "google_cloud_vertex_ai_config", fields = { "project_id", "region" },
        needed = { "project_id", "region" }, secrets = { "private_key" }, one_of = { "private_key" },
    },
    ["databricks-model-serving"] = {
        key = "databricks_model_serving_config", fields = { "databricks_workspace_url" },
        needed = { "databricks_workspace_url" }, secrets = { "databricks_api_token" },
        one_of = { "databricks_api_token" },
    },
    custom = {
        key = "custom_provider_config", fields = { "custom_provider_url" }, needed = { "custom_provider_url" },
        parts = {
            api_key_auth = { fields = { "key" }, needed = { "key" }, secrets = { "value" }, one_of = { "value" } },
            bearer_token_auth = { secrets = { "token" }, one_of = { "token" } },
        },
        one_of = { "api_key_auth", "bearer_token_auth" },
    },
}

local function check_text(value, where)
    if type(value) ~= "string" or value == "" or #value > TEXT_MAX then
        refuse("INVALID_PARAMETER_VALUE", "%s must be a string of 1 to %d bytes", where, TEXT_MAX)
    end
    return value
end

--- A secret: a reference is kept, a plain text is not. Messages never show a value: it may be the secret.
local function read_secret(given, name, where)
    local reference, plain = given[name], given[name .. "_plaintext"]
    if reference ~= nil and plain ~= nil then
        refuse("INVALID_PARAMETER_VALUE", "%s: only one of %s and %s_plaintext may be given", where, name, name)
    elseif plain ~= nil and (type(plain) ~= "string" or plain == "") then
        refuse("INVALID_PARAMETER_VALUE", "%s.%s_plaintext must be a string that is not empty", where, name)
    elseif reference ~= nil and (type(reference) ~= "string" or not reference:find(REFERENCE)) then
        refuse("INVALID_PARAMETER_VALUE", "%s.%s must be a reference {{secrets/scope/key}}; a secret itself goes "
            .. "into %s_plaintext", where, name, name)
    end
    return reference, reference ~= nil or plain ~= nil
end

local function has_one(found, names, where)
    for _, name in ipairs(names or {}) do
        if found[name] then
            return
        end
    end
    if names then
        refuse("INVALID_PARAMETER_VALUE", "%s needs %s", where, table.concat(names, " or "))
    end
end

--- Reads a table by a description as in PROVIDERS: a new one, without what is secret or unknown.
local function read_fields(given, rules, where)
    if type(given) ~= "table" then
        refuse("INVALID_PARAMETER_VALUE", "%s must be an object", where)
    end
    local kept, found = {}, {}
    for _, name in ipairs(rules.fields or {}) do
        if given[name] ~= nil then
            kept[name], found[name] = check_text(given[name], where .. "." .. name), true
        end
    end
    for _, name in ipairs(rules.needed or {}) do
        if not found[name] then
            refuse("INVALID_PARAMETER_VALUE", "%s.%s is required", where, name)
        end
    end
    for _, name in ipairs(rules.secrets or {}) do
        kept[name], found[name] = read_secret(given, name, where)
    end
    for name, part in next, rules.parts or {} do
        if given[name] ~= nil then
            kept[name], found[name] = read_fields(given[name], part, where .. "." .. name), true
        end
    end
    has_one(found, rules.one_of, where)
    return kept
end

--- Reads an external model.
---@param given any
---@param where string for messages
---@return table model as answers have it
function external.read(given, where)
    if type(given) ~= "table" then
        refuse("INVALID_PARAMETER_VALUE", "%s must be an object", where)
    end
    local rules = type(given.provider) == "string" and PROVIDERS[given.provider]
    if not rules then
        refuse("INVALID_PARAMETER_VALUE", "%s.provider must be one of %s", where,
            table.concat(check.sorted_keys(PROVIDERS), ", "))
    elseif not external.TASKS[given.task] then
        refuse("INVALID_PARAMETER_VALUE", "%s.task must be one of %s", where,
            table.concat(check.sorted_keys(external.TASKS), ", "))
    end
    return {
        provider = given.provider, task = given.task, name = check_text(given.name, where .. ".name"),
        [rules.key] = read_fields(given[rules.key], rules, where .. "." .. rules.key),
    }
end

return external
