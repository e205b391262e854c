-- Which messages of a user the office's own rules refuse: `rspamadm lua -b FILE LOGIN NAME ADDRESS`
local rspamd_ip, rspamd_task = require "rspamd_ip", require "rspamd_task"
local rules, redis, mime = {}, require "lua_redis", require "lua_mime"
redis.parse_redis_server = function() return {} end
redis.add_redis_script = function() return 1 end
mime.modify_headers = function() end
rspamd_config = {
  register_symbol = function(_, rule) rules[rule.name] = rule.callback end,
  register_dependency = function() end,
}
dofile("/etc/rspamd/lua.local.d/office.lua")

local login, name, address = arg[1], arg[2], arg[3]
local here = rspamd_ip.from_string("127.0.0.1")
local function sent(from, signer)
  local refused
  local replies = {
    get_from_ip = function() return here end,
    get_user = function() return login end,
    get_dkim_results = function() return signer and { { result = "allow", domain = signer, selector = "s" } } or {} end,
    set_pre_result = function(_, result) refused = result.message end,
  }
  local ok, task = rspamd_task.load_from_string(from .. "\r\nTo: x@y.test\r\nSubject: s\r\n\r\nx\r\n")
  assert(ok and task:process_message())
  rules.OFFICE_SENDER(setmetatable({}, { __index = function(_, call)
    return replies[call] or function(_, ...) return task[call](task, ...) end
  end }))
  task:destroy()
  return refused and "refused" or "taken"
end

local resent = "\r\nResent-From: " .. login
for what, result in pairs({
  ["own"] = sent("From: " .. login),
  ["own, with the colleague's name"] = sent("From: " .. name .. " <" .. login .. ">"),
  ["a stranger's, resent"] = sent("From: A Stranger <a@elsewhere.test>" .. resent, "elsewhere.test"),
  ["a stranger's without a signature, resent"] = sent("From: A Stranger <a@elsewhere.test>" .. resent),
  ["a colleague's, resent"] = sent("From: " .. name .. " <" .. address .. ">" .. resent, string.match(address, "@(.*)")),
  ["a colleague's name, resent"] = sent("From: " .. name .. " <a@elsewhere.test>" .. resent, "elsewhere.test"),
  ["a colleague's address as a name, resent"] = sent('From: "' .. address .. '" <a@elsewhere.test>' .. resent, "elsewhere.test"),
  ["a colleague's name beside another colleague's address"] = sent("From: " .. name .. " <" .. address .. ">, a@elsewhere.test" .. resent, "elsewhere.test"),
}) do print("verdict: " .. what .. ": " .. result) end
