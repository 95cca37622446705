#include "track/hocon_tree.h"

#include <algorithm>
#include <set>
#include <span>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

using Kind = HoconNode::Kind;
constexpr int most_substitutions = 1000;

// Of nulls, texts and numbers alike.
Kind broad_kind(const HoconNode& node) {
  return node.kind == Kind::list || node.kind == Kind::object ? node.kind : Kind::text;
}

void put_members(HoconNode& object, const HoconNode& from) {
  for (const auto& [key, value] : from.members) put(object, {key}, value);
}

void put_below(HoconNode& object, std::span<const std::string> path, HoconNode value, bool append) {
  HoconNode* there = object.member(path.front());
  if (!there) {
    object.members.emplace_back(path.front(), HoconNode{});
    there = &object.members.back().second;
  }
  if (path.size() > 1) {
    if (there->kind != Kind::object) *there = {.kind = Kind::object, .place = value.place};
    put_below(*there, path.subspan(1), std::move(value), append);
    return;
  }
  if (append && there->kind != Kind::null) {
    HoconNode before = *there;
    before.blank = " ";
    const std::string place = value.place;
    value = joined({std::move(before), std::move(value)}, place);
  }
  if (there->kind == Kind::object && value.kind == Kind::object) {
    put_members(*there, value);
    return;
  }
  if (value.kind == Kind::row) value.before = std::make_shared<HoconNode>(*there);
  *there = std::move(value);
}

class Resolver {
 public:
  Resolver(const HoconNode& root, const Environment& environment) : root_(root), environment_(environment) {}

  // The value, or a null where optional substitutions leave nothing.
  HoconNode made(const HoconNode& node) {
    if (node.kind == Kind::row) return row(node);
    HoconNode out{.kind = node.kind,
                  .text = node.text,
                  .blank = node.blank,
                  .quoted = node.quoted,
                  .place = node.place};
    for (const HoconNode& part : node.parts) out.parts.push_back(made(part));
    for (const auto& [key, value] : node.members) {
      HoconNode member = made(value);
      const bool nothing = member.kind == Kind::null && member.optional;
      if (!nothing) out.members.emplace_back(key, std::move(member));
    }
    return out;
  }

 private:
  HoconNode row(const HoconNode& node) {
    if (!under_way_.insert(&node).second)
      throw ConfigError(node.place, ": this value refers to itself; break the circle of ${...}");
    std::vector<HoconNode> parts;
    for (const HoconNode& part : node.parts) {
      HoconNode value = part.kind == Kind::substitution ? substituted(part, node) : made(part);
      if (part.kind == Kind::substitution) value.blank = part.blank;
      const bool nothing = value.kind == Kind::null && value.optional;
      if (!nothing) parts.push_back(std::move(value));
    }
    under_way_.erase(&node);
    if (!parts.empty()) {
      const bool objects =
          parts.front().kind == Kind::object && node.before && node.before->kind == Kind::object;
      if (objects) parts.insert(parts.begin(), made(*node.before));
      return joined(std::move(parts), node.place);
    }
    if (node.before && node.before->place != "") return made(*node.before);
    return {.optional = true, .place = node.place};
  }

  HoconNode substituted(const HoconNode& part, const HoconNode& row) {
    if (++made_ > most_substitutions)
      throw ConfigError(part.place, ": more than ", most_substitutions,
                        " substitutions; is it the right file?");
    const HoconNode* found = find(part.text);
    if (found && !under_way_.contains(found)) return made(*found);
    if (found && row.before && row.before->place != "") return made(*row.before);
    if (const auto variable = environment_.find(part.text); variable != environment_.end())
      return {.kind = Kind::text, .text = variable->second, .quoted = true, .place = part.place};
    if (part.optional) return {.optional = true, .place = part.place};
    if (found) throw ConfigError(part.place, ": ${", part.text, "} refers to itself; break the circle");
    throw ConfigError(part.place, ": ${", part.text,
                      "} is neither a key of this file nor set in the environment; set it, or write ${?",
                      part.text, "}");
  }

  const HoconNode* find(const std::string& path) {
    const HoconNode* at = &root_;
    for (size_t begin = 0; begin <= path.size();) {
      const size_t end = std::min(path.find('.', begin), path.size());
      const std::string key = path.substr(begin, end - begin);
      const auto found = std::ranges::find(at->members, key, [](const auto& entry) { return entry.first; });
      if (found == at->members.end()) return nullptr;
      at = &found->second;
      begin = end + 1;
    }
    return at;
  }

  const HoconNode& root_;
  const Environment& environment_;
  std::set<const HoconNode*> under_way_;
  int made_ = 0;
};

Hocon plain(const HoconNode& node) {
  Hocon out{.text = node.text, .quoted = node.quoted, .place = node.place};
  if (node.kind == Kind::text) out.kind = Hocon::Kind::text;
  if (node.kind == Kind::list) out.kind = Hocon::Kind::list;
  if (node.kind == Kind::object) out.kind = Hocon::Kind::object;
  for (const HoconNode& part : node.parts) out.items.push_back(plain(part));
  for (const auto& [key, value] : node.members) out.members.emplace_back(key, plain(value));
  return out;
}

}  // namespace

HoconNode* HoconNode::member(const std::string& key) {
  const auto found = std::ranges::find(members, key, [](const auto& entry) { return entry.first; });
  return found == members.end() ? nullptr : &found->second;
}

void put(HoconNode& object, const std::vector<std::string>& path, HoconNode value, bool append) {
  put_below(object, path, std::move(value), append);
}

HoconNode joined(std::vector<HoconNode> parts, const std::string& place) {
  const auto later = [](const HoconNode& part) {
    return part.kind == Kind::substitution || part.kind == Kind::row;
  };
  if (std::ranges::any_of(parts, later))
    return {.kind = Kind::row, .parts = std::move(parts), .place = place};
  if (parts.empty()) return {.kind = Kind::text, .place = place};
  HoconNode out = std::move(parts.front());
  for (size_t i = 1; i < parts.size(); ++i) {
    if (broad_kind(parts[i]) != broad_kind(out))
      throw ConfigError(
          place, ": values of different kinds stand side by side; is a comma or a line break missing?");
    if (out.kind == Kind::list) {
      out.parts.insert(out.parts.end(), parts[i].parts.begin(), parts[i].parts.end());
    } else if (out.kind == Kind::object) {
      put_members(out, parts[i]);
    } else {
      out.kind = Kind::text;
      out.text += out.blank + parts[i].text;
      out.blank = parts[i].blank;
      out.quoted = true;
    }
  }
  out.place = place;
  return out;
}

Hocon resolved(const HoconNode& root, const Environment& environment) {
  return plain(Resolver(root, environment).made(root));
}

}  // namespace lab::detail
