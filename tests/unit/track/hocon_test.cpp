#include "track/hocon.h"

#include <gmock/gmock.h>

#include <cctype>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

const Environment environment{{"HOME", "/home/u"}, {"PORT", "8008"}, {"EMPTY", ""}};

std::string escaped(const std::string& from) {
  std::string out;
  for (const char c : from) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else
      out += c;
  }
  return out;
}

// On one line: {key:'text',other:[...],third:null}, and true for a true that is not in quotes.
std::string shown(const Hocon& value) {
  std::string out;
  switch (value.kind) {
    case Hocon::Kind::null:
      return "null";
    case Hocon::Kind::text: {
      std::string lower = value.text;
      for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      if (!value.quoted && (lower == "true" || lower == "false")) return lower;
      return "'" + escaped(value.text) + "'";
    }
    case Hocon::Kind::list:
      for (const Hocon& item : value.items) out += (out.empty() ? "" : ",") + shown(item);
      return "[" + out + "]";
    case Hocon::Kind::object:
      for (const auto& [key, member] : value.members)
        out += (out.empty() ? "" : ",") + key + ":" + shown(member);
      return "{" + out + "}";
  }
  return "?";
}

struct Case {
  std::string name, text, expected;
};

// What the parser within ClearML's SDK 2.1.12 gives for the same files, but for the lines that say otherwise.
const Case cases[] = {
    // clang-format off
    {"empty", "", "{}"},
    {"only_comments", "# a\n// b\n", "{}"},
    {"equals", "a = 1", "{a:'1'}"},
    {"colon", "a: 1", "{a:'1'}"},
    {"no_separator", "a { b = 1 }", "{a:{b:'1'}}"},
    {"separator_and_brace", "a = { b: 1 }", "{a:{b:'1'}}"},
    {"root_braces", "{ a: 1 }", "{a:'1'}"},
    {"root_braces_multi", "# x\n{\n  a: 1\n}\n# y\n", "{a:'1'}"},
    {"dotted_key", "a.b.c = 1", "{a:{b:{c:'1'}}}"},
    {"dotted_merges", "a.b = 1\na.c = 2", "{a:{b:'1',c:'2'}}"},
    {"objects_merge", "a { b: 1 }\na { c: 2 }", "{a:{b:'1',c:'2'}}"},
    {"later_wins", "a: 1\na: 2", "{a:'2'}"},
    {"text_replaces_object", "a { b: 1 }\na: 2", "{a:'2'}"},
    {"object_replaces_text", "a: 2\na { b: 1 }", "{a:{b:'1'}}"},  // the SDK crashes
    {"object_replaces_text_dotted", "a: 2\na.b: 1", "{a:{b:'1'}}"},
    {"quoted_keys", "\"access_key\" = \"A\"\n\"secret key\": \"S\"", "{access_key:'A',secret key:'S'}"},
    {"quoted_dot", "\"a.b\" = 1\na.c = 2", "{a.b:'1',a:{c:'2'}}"},
    {"spaces_in_key", "a b = 1", "{a b:'1'}"},
    {"dash_in_key", "a-b_c = 1", "{a-b_c:'1'}"},
    {"slash_in_key", "a/b = 1", "{a/b:'1'}"},
    {"comma_separated", "a: 1, b: 2", "{a:'1',b:'2'}"},
    {"trailing_comma", "a { b: 1, c: 2, }", "{a:{b:'1',c:'2'}}"},
    {"double_comma", "a: 1,, b: 2", "{a:'1',b:'2'}"},
    {"one_line_objects", "a {x: 1} b {y: 2}", "{a:{x:'1'},b:{y:'2'}}"},
    {"newline_before_brace", "a\n{\n b: 1\n}", "{a:{b:'1'}}"},
    {"newline_after_separator", "a =\n  1", "{a:'1'}"},
    {"comment_after_separator", "a = # c\n 1", "{a:'1'}"},
    {"comment_hash", "a: x # c\nb: y", "{a:'x',b:'y'}"},
    {"comment_slashes", "a: x // c\nb: y", "{a:'x',b:'y'}"},
    {"url_unquoted", "a: http://h:8008/x\nb: 1", "{a:'http://h:8008/x',b:'1'}"},
    {"url_then_comment", "a: http://h # c", "{a:'http://h'}"},
    {"hash_without_space", "a: x#c", "{a:'x'}"},
    {"hash_in_quotes", "a: \"x#c\" # d", "{a:'x#c'}"},
    {"comment_between", "a {\n # x\n b: 1 # y\n // z\n c: 2\n}", "{a:{b:'1',c:'2'}}"},
    {"unquoted_words", "a: one two  three  ", "{a:'one two  three'}"},
    {"quoted_then_words", "a: \"one\" two", "{a:'one two'}"},
    {"two_quoted", "a: \"one\"  \"two\"", "{a:'one  two'}"},
    {"number_words", "a: 10 GB", "{a:'10 GB'}"},
    {"colon_in_value", "a: b:c", "{a:'b:c'}"},
    {"escapes", "a: \"x\\\"y\\\\z\\tw\\nv\"", "{a:'x\"y\\z\\tw\\nv'}"},
    {"escape_unicode", "a: \"\\u0041\"", "{a:'\\u0041'}"},
    {"escape_slash", "a: \"\\/x\"", "{a:'\\/x'}"},
    {"unquoted_escape", "a: x\\#y\\=z", "{a:'x#y=z'}"},
    {"backslash_windows", "a: \"C:\\\\temp\"", "{a:'C:\\temp'}"},
    {"triple", "a: \"\"\"x \"y\"\n z\\n\"\"\"", "{a:'x \"y\"\\n z\\n'}"},
    {"triple_ends_with_quote", "a: \"\"\"x\"\"\"\"", "{a:'x\"'}"},
    {"triple_empty", "a: \"\"\"\"\"\"", "{a:''}"},
    {"continued", "a: x \\\n  y", "{a:'x y'}"},
    {"bools", "a: true\nb: False\nc: yes\nd: \"true\"", "{a:true,b:false,c:'yes',d:'true'}"},
    {"null", "a: null\nb: \"null\"", "{a:null,b:'null'}"},
    {"empty_value", "a:\nb: 1", "{a:'b: 1'}"},
    {"empty_value_end", "a: ", "{a:''}"},
    {"empty_value_brace", "a { b: }", "{a:{b:''}}"},
    {"empty_quotes", "a: \"\"", "{a:''}"},
    {"list", "a: [1, 2, 3]", "{a:['1','2','3']}"},
    {"list_lines", "a: [\n 1\n 2\n]", "{a:['1','2']}"},
    {"list_trailing_comma", "a: [1, 2,]", "{a:['1','2']}"},
    {"list_empty", "a: []", "{a:[]}"},
    {"list_of_objects", "a: [ { url: \"file://*\" } # c\n {b: 1}, ]", "{a:[{url:'file://*'},{b:'1'}]}"},
    {"list_words", "a: [x y, \"z\"]", "{a:['x y','z']}"},
    {"list_concat", "a: [1] [2]", "{a:['1','2']}"},
    {"list_append", "a: [1]\na += [2]", "{a:['1','2']}"},
    {"text_append", "a: x\na += y", "{a:'x y'}"},
    {"append_first", "a += [1]", "{a:['1']}"},
    {"list_comment", "a: [\n # c\n 1 # d\n // e\n]", "{a:['1']}"},
    {"object_concat", "a: {b: 1} {c: 2}", "{a:{b:'1',c:'2'}}"},
    {"object_line_concat", "a: {b: 1}\n{c: 2}", "error"},
    {"sub_env", "a: ${PORT}", "{a:'8008'}"},
    {"sub_env_text", "a: \"http://h:\"${PORT}", "{a:'http://h:8008'}"},
    {"sub_env_unquoted", "a: http://h:${PORT}/x", "{a:'http://h:8008/x'}"},
    {"sub_missing", "a: ${NOPE}", "error"},
    {"sub_optional_missing", "a: ${?NOPE}\nb: 1", "{b:'1'}"},
    {"sub_optional_keeps", "a: 1\na: ${?NOPE}", "{a:'1'}"},
    {"sub_optional_wins", "a: 1\na: ${?PORT}", "{a:'8008'}"},
    {"sub_optional_in_text", "a: x${?NOPE}y", "{a:'xy'}"},
    {"sub_own_key", "a: 1\nb: ${a}", "{a:'1',b:'1'}"},
    {"sub_later_key", "b: ${a}\na: 1", "{b:'1',a:'1'}"},
    {"sub_path", "a.b: 1\nc: ${a.b}", "{a:{b:'1'},c:'1'}"},
    {"sub_object", "a {x: 1}\nb: ${a} {y: 2}", "{a:{x:'1'},b:{x:'1',y:'2'}}"},
    {"sub_object_then_key", "a {x: 1}\nb: ${a}\nb.z: 3", "{a:{x:'1'},b:{z:'3'}}"},
    {"sub_self", "a: x\na: ${a}y", "{a:'xy'}"},
    {"sub_self_env", "PORT: ${PORT}", "{PORT:'8008'}"},
    {"sub_cycle", "a: ${b}\nb: ${a}", "error"},
    {"sub_self_none", "a: ${a}", "error"},
    {"sub_in_quotes", "a: \"${PORT}\"", "{a:'${PORT}'}"},
    {"sub_empty_env", "a: ${EMPTY}", "{a:''}"},
    {"sub_key_beats_env", "PORT: 1\na: ${PORT}", "{PORT:'1',a:'1'}"},
    {"sub_in_list", "a: [${PORT}, ${?NOPE}, x]", "{a:['8008',null,'x']}"},
    {"sub_chain", "a: ${b}\nb: ${c}\nc: 1", "{a:'1',b:'1',c:'1'}"},
    {"sub_words", "a: ${PORT} x ${PORT}", "{a:'8008 x 8008'}"},
    {"sub_nested_override", "a { b: 1 }\na { b: ${?PORT} }", "{a:{b:'8008'}}"},
    {"sub_list_append", "a: [1]\na: ${a} [2]", "{a:['1','2']}"},
    {"sub_no_brace", "a: ${PORT", "error"},
    {"crlf", "a: 1\r\nb { c: x\r\n}\r\n", "{a:'1',b:{c:'x'}}"},
    {"tabs", "\ta\t:\t1\t", "{a:'1'}"},
    {"utf8", "a: \"größe\"\nschlüssel: ü", "{a:'größe',schlüssel:'ü'}"},
    {"unclosed_brace", "a { b: 1", "error"},
    {"extra_brace", "a: 1 }", "error"},
    {"unclosed_quote", "a: \"x\nb: 1", "error"},
    {"unclosed_triple", "a: \"\"\"x", "error"},
    {"unclosed_list", "a: [1, 2", "error"},
    {"no_value_no_separator", "a\n", "error"},
    {"no_key", "= 1", "error"},
    {"mixed", "a: {b: 1} x", "error"},
    {"mixed_list", "a: [1] x", "error"},
    {"special_unquoted", "a: x+y", "error"},
    {"special_at", "a: me@host", "error"},
    {"special_star", "a: *", "error"},
    {"dollar", "a: x$y", "error"},
    {"two_separators", "a == 1", "error"},
    {"quoted_in_path", "a.\"b\" = 1", "error"},
    {"junk_after_root", "{a: 1} b: 2", "error"},
    {"root_list", "[1]", "error"},  // no list is a configuration
    {"bad_mid", "api {\n  api_server: http://h\n  web_server ?\n}", "error"},
    {"include_missing", "include \"nope.conf\"\na: 1", "error"},  // refused: a file's text alone decides
    {"include_as_key", "include: 1", "{include:'1'}"},
    {"negative", "a: -1", "{a:'-1'}"},
    {"float", "a: 0.5", "{a:'0.5'}"},
    {"exponent", "a: 1e5", "{a:'1e5'}"},  // kept as written
    {"leading_zeros", "a: 007", "{a:'007'}"},  // kept as written
    {"version", "a: 1.2.3", "{a:'1.2.3'}"},
    {"digits_key", "1: x", "{1:'x'}"},
    {"true_words", "a: true yes", "{a:'true yes'}"},  // kept as written
    {"period_end", "a: 5s", "{a:'5s'}"},  // no times
    {"period_mid", "a: 5s\nb: 1", "{a:'5s',b:'1'}"},
    {"browser_login", "api.credentials.access_key=ABC123\napi.credentials.secret_key=x-Y_z9\n", "{api:{credentials:{access_key:'ABC123',secret_key:'x-Y_z9'}}}"},
    {"clearml_init", "# ClearML SDK configuration file\napi {\n    # Notice: 'host' is the api server (default port 8008), not the web server.\n    api_server: http://h:8008\n    web_server: http://h:8080\n    files_server: http://h:8081\n    # Credentials are generated using the webapp, http://h:8080/settings\n    credentials {\"access_key\": \"A\", \"secret_key\": \"S\"}\n}\nsdk {\n    storage {\n        cache {\n            default_base_dir: \"~/.clearml/cache\"\n        }\n        direct_access: [\n            # Objects\n            { url: \"file://*\" }  # file-urls\n        ]\n        http.legacy_fileservers: []\n    }\n}\n", "{api:{api_server:'http://h:8008',web_server:'http://h:8080',files_server:'http://h:8081',credentials:{access_key:'A',secret_key:'S'}},sdk:{storage:{cache:{default_base_dir:'~/.clearml/cache'},direct_access:[{url:'file://*'}],http:{legacy_fileservers:[]}}}}"},
    {"web_paste", "api { \n    web_server: http://h:8080\n    api_server: http://h:8008\n    credentials {\n        \"access_key\" = \"A\"\n        \"secret_key\"  = \"S\"\n    }\n}", "{api:{web_server:'http://h:8080',api_server:'http://h:8008',credentials:{access_key:'A',secret_key:'S'}}}"},
    // clang-format on
};

class HoconCase : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Hocon, HoconCase, testing::ValuesIn(cases),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(HoconCase, GivesWhatTheSdkGives) {
  std::string got;
  try {
    got = shown(parse_hocon("clearml.conf", GetParam().text, environment));
  } catch (const ConfigError&) {
    got = "error";
  }
  EXPECT_EQ(got, GetParam().expected);
}

std::string error_of(const std::string& text) {
  try {
    parse_hocon("clearml.conf", text, environment);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Hocon, ErrorsNamePlaces) {
  EXPECT_THAT(error_of("api {\n  api_server: http://h\n  web_server ?\n}"),
              testing::StartsWith("clearml.conf:3:14: "));
  EXPECT_THAT(error_of("a: ${NOPE}"), testing::StartsWith("clearml.conf:1:4: ${NOPE} is neither"));
  EXPECT_THAT(error_of("a: ${b}\nb: ${a}"), testing::HasSubstr("refers to itself"));
  EXPECT_THAT(error_of("a {\n b: 1"), testing::HasSubstr("the { of clearml.conf:1:3"));
}

TEST(Hocon, ErrorsShowNoValues) {
  EXPECT_THAT(error_of("secret_key: hidden+x"), testing::Not(testing::HasSubstr("hidden")));
  EXPECT_THAT(error_of("secret_key: \"hidden"), testing::Not(testing::HasSubstr("hidden")));
  EXPECT_THAT(error_of("secret_key: hidden {a: 1}"), testing::Not(testing::HasSubstr("hidden")));
}

TEST(Hocon, AbsurdFilesAreRefused) {
  EXPECT_THAT(error_of("a: " + std::string(100'000, '[')), testing::HasSubstr("deeper"));
  std::string open;
  for (int i = 0; i < 100'000; ++i) open += "a{";
  EXPECT_THAT(error_of(open), testing::HasSubstr("deeper"));
  EXPECT_THAT(error_of(std::string(2'000'000, '#')), testing::HasSubstr("right file"));
  std::string doubling = "a0: x\n";
  for (int i = 0; i < 40; ++i) doubling += text("a", i + 1, ": ${a", i, "}${a", i, "}\n");
  EXPECT_THAT(error_of(doubling), testing::HasSubstr("substitutions"));
}

TEST(Hocon, ByteOrderMarkIsNoKey) {
  EXPECT_EQ(shown(parse_hocon("f",
                              "\xef\xbb\xbf"
                              "a: 1",
                              {})),
            "{a:'1'}");
}

TEST(Hocon, FilesAreMerged) {
  Hocon base = parse_hocon("f", "a { b: 1, c: 2 }\nd: 3", {});
  merge(base, parse_hocon("g", "a { c: 4 }\nd { e: 5 }\nf: 6", {}));
  EXPECT_EQ(shown(base), "{a:{b:'1',c:'4'},d:{e:'5'},f:'6'}");
}

}  // namespace
}  // namespace lab::detail
