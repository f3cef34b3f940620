-- Asks Doorward whether a request may pass: the action lua.doorward of haproxy.cfg. Any failure here refuses the request.

local ASK = "http://127.0.0.1:8080/auth/verify"
local SECRET = "change-me-change-me"
local TIMEOUT_MS = 3000

-- Fields that Doorward decides by, besides method, host and path. HAProxy has names in lower case.
local JUDGED = {
    "authorization", "x-api-key", "cookie", "accept", "origin", "sec-fetch-mode", "sec-websocket-key",
    "access-control-request-method",
}
-- Also these, in any spelling: a framework may use their value as the method.
local OVERRIDES = {
    ["http-method-override"] = true, ["method-override"] = true, ["x-http-method"] = true,
    ["x-http-method-override"] = true, ["x-method-override"] = true,
}
-- Identity headers for the service. haproxy.cfg has removed the caller's copies.
local TOLD = {
    "x-auth-uid", "x-auth-username", "x-auth-roles", "x-auth-scopes", "x-auth-method", "x-auth-key-id",
    "x-auth-assertion", "x-request-id",
}
-- Fields that a refused caller gets besides the status and the body.
local REFUSAL = { "content-type", "www-authenticate", "location", "retry-after", "cache-control", "x-request-id" }
local STATUSES = { [302] = true, [400] = true, [401] = true, [403] = true, [503] = true }
-- Cookies that the service does not get.
local OWN_COOKIES = { ["__Host-doorward"] = true, ["__Secure-doorward"] = true, ["doorward_session"] = true }

local function first(headers, name)
    local values = headers and headers[name]
    return values and values[0]
end

local function question(txn)
    local sent = txn.http:req_get_headers()
    local headers = {}
    for _, name in ipairs(JUDGED) do
        local values = {}
        for _, value in pairs(sent[name] or {}) do
            table.insert(values, value)
        end
        if #values > 0 then
            headers[name] = values
        end
    end
    for name, fields in pairs(sent) do
        if OVERRIDES[(name:gsub("[^a-z0-9]+", "-"))] then
            local values = {}
            for _, value in pairs(fields) do
                table.insert(values, value)
            end
            headers[name] = values
        end
    end
    headers["x-doorward-secret"] = { SECRET }
    headers["x-forwarded-method"] = { txn.sf:method() }
    headers["x-forwarded-uri"] = { txn.sf:pathq() }
    headers["x-forwarded-host"] = { first(sent, "host") or "" }
    headers["x-forwarded-proto"] = { first(sent, "x-forwarded-proto") }
    headers["x-forwarded-for"] = { txn.sf:src() }
    return headers
end

local function refuse(txn, status, headers, body)
    local reply = txn:reply({ status = status })
    for _, name in ipairs(REFUSAL) do
        local value = first(headers, name)
        if value then
            reply:add_header(name, value)
        end
    end
    reply:set_body(body or "")
    txn:done(reply)
end

local function strip_cookies(txn)
    local sent = txn.http:req_get_headers()["cookie"]
    if not sent then
        return
    end
    local left = {}
    for _, field in pairs(sent) do
        for pair in field:gmatch("[^;]+") do
            pair = pair:match("^%s*(.-)%s*$")
            if pair ~= "" and not OWN_COOKIES[pair:match("^([^=%s]*)")] then
                table.insert(left, pair)
            end
        end
    end
    txn.http:req_del_header("cookie")
    if #left > 0 then
        txn.http:req_set_header("cookie", table.concat(left, "; "))
    end
end

core.register_action("doorward", { "http-req" }, function(txn)
    local asked, answer = pcall(function()
        return core.httpclient():get({ url = ASK, headers = question(txn), timeout = TIMEOUT_MS })
    end)
    if not asked or not answer or not answer.status then
        return refuse(txn, 503)
    end
    if answer.status ~= 200 then
        local status = STATUSES[answer.status] and answer.status or 503
        return refuse(txn, status, answer.headers, answer.body)
    end
    for _, name in ipairs(TOLD) do
        local value = first(answer.headers, name)
        if value and value ~= "" then
            txn.http:req_set_header(name, value)
        end
    end
    txn.http:req_del_header("authorization")
    txn.http:req_del_header("x-api-key")
    strip_cookies(txn)
    -- A head that does not fit into tune.bufsize silently loses fields.
    local sent = txn.http:req_get_headers()
    for _, name in ipairs(TOLD) do
        local value = first(answer.headers, name)
        if value and value ~= "" and first(sent, name) ~= value then
            return refuse(txn, 503)
        end
    end
end)
