--- The topics of `moonflow help`, which are in the manual page too: {name, title, text}.
local config = require "moonflow.config"

local topics = {}

topics.list = {
    { "config", "which target is used, and where options come from", [[
The target is that of --target, else MLFLOW_DEPLOYMENTS_TARGET, else MLFLOW_DEPLOYMENT_TARGET, else
"databricks" inside a Databricks runtime.
Databricks' profiles are read from ~/.databrickscfg (DATABRICKS_CONFIG_FILE): databricks://PROFILE.
MLflow's user name and password may be in ~/.mlflow/credentials.
`moonflow doctor` says what is used and where it came from.]] },
    { "auth", "credentials, and where they are looked for", [[
No option takes the value of a secret. They are looked for in this order:
an MLflow server: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, ~/.mlflow/credentials,
  MLFLOW_TRACKING_TOKEN
OpenAI: OPENAI_API_KEY
Azure OpenAI: AZURE_OPENAI_AD_TOKEN, AZURE_OPENAI_API_KEY, OPENAI_API_KEY, Entra ID
Databricks: DATABRICKS_HOST with DATABRICKS_TOKEN or another way to log in, ~/.databrickscfg
A credential goes only to the origin it is for, and over plain http:// only to this machine.
With --curl, secrets are $VARIABLES; elsewhere they are <redacted>.]] },
    { "output", "forms of output", [[
On a terminal a table, in a pipe JSON; -o table, json, jsonl or name says it outright.
Results go to standard output, messages to standard error.
-q LUA prints an expression over the result r.
-v shows requests, statuses, times and retries; -vv headers too; --debug bodies too, cut at 4 kB.
--dry-run prints what would be sent, --curl the same as a command; both send nothing.
NO_COLOR and TERM=dumb: no colour.]] },
    { "exit-codes", "what the exit codes mean", [[
0  success
1  error in a Lua script
2  usage or configuration
3  not found (404)
4  credentials: none, or refused (401, 403)
5  refused (another 4xx), or not offered by this target
6  server error (5xx), or an answer that can not be read
7  rate limit (429)
8  network
9  timeout
10 plugin
130 interrupted]] },
    { "environment", "the variables that are read" },
    { "plugins", "targets in Lua files", [[
A file NAME.lua, or NAME/init.lua, is the target NAME:... It returns a table: api = 1, name, client.
Searched: --plugin-dir, MOONFLOW_PLUGIN_PATH, $XDG_DATA_HOME/moonflow/plugins
(~/.local/share/moonflow/plugins), and the installed directory; never the working directory.
`moonflow targets` lists them, and says why one is not used.]] },
    { "repl", "exploring on a terminal", [[
moonflow without words, or moonflow repl. An expression prints its value; each line is a task, so
requests work at the prompt. Ctrl-C stops what runs, Ctrl-D ends. ,help lists the commands there.]] },
    { "query", "the option -q", [[
-q LUA is an expression over the result, which is r; a string is printed as it is:
  moonflow predict -e chat "Hello" -q 'r.choices[1].message.content'
  moonflow endpoints list -q '#r'
Only the standard library's pure functions are there.]] },
}

--- The variables of moonflow.config, aligned.
local function environment()
    local lines = {}
    for _, variable in ipairs(config.variables) do
        if variable.name:sub(1, 1) ~= "_" then
            lines[#lines + 1] = variable.name
            local default = variable.default ~= nil and (" (%s)"):format(tostring(variable.default)) or ""
            lines[#lines + 1] = "    " .. variable.doc .. default
        end
    end
    return table.concat(lines, "\n")
end

--- The text of a topic, or nil.
---@param name string
---@return string? text
---@return string? title
function topics.get(name)
    for _, topic in ipairs(topics.list) do
        if topic[1] == name then
            return topic[3] or environment(), topic[2]
        end
    end
end

return topics
