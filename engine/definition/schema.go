package definition

// Schema returns the JSON Schema (2020-12) of one document. It takes every
// document that Load takes (condition trees are checked by package rule), and
// refuses unknown keys, wrong types and what is not supported yet. What a
// schema cannot say (references, real zones, ends after starts, sums of
// weights) only Load checks. docs/schema.json holds the same bytes.
func Schema() []byte { return []byte(schemaFirst + schemaQuiet + schemaSecond + schemaParts) }

// schemaMeta is what every document may have.
const schemaMeta = `        "kind": true,
        "id": {"$ref": "#/$defs/id"},
        "name": {"$ref": "#/$defs/human"},
        "description": {"$ref": "#/$defs/human"},
        "owner": {"$ref": "#/$defs/text"},
        "labels": {"$ref": "#/$defs/labels"},
`

// schemaFirst is the head and the kinds up to cap.
const schemaFirst = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "$id": "urn:tact:definition",
  "title": "A document of a tact definitions folder",
  "description": "One YAML document, or the same as JSON. References: see tact check.",
  "type": "object",
  "required": ["kind", "id"],
  "properties": {
    "kind": {
      "description": "What the document defines.",
      "enum": [
        "workspace", "attribute", "tag", "tier", "event", "segment", "calendar",
        "quiet_hours", "cap", "offer", "placement", "decision_policy", "layer", "experiment",
        "holdout", "test"
      ]
    }
  },
  "allOf": [
    {"if": {"properties": {"kind": {"const": "workspace"}}},
      "then": {"$ref": "#/$defs/workspace"}},
    {"if": {"properties": {"kind": {"const": "attribute"}}},
      "then": {"$ref": "#/$defs/attribute"}},
    {"if": {"properties": {"kind": {"const": "tag"}}},
      "then": {"$ref": "#/$defs/tag"}},
    {"if": {"properties": {"kind": {"const": "tier"}}},
      "then": {"$ref": "#/$defs/tier"}},
    {"if": {"properties": {"kind": {"const": "event"}}},
      "then": {"$ref": "#/$defs/event"}},
    {"if": {"properties": {"kind": {"const": "segment"}}},
      "then": {"$ref": "#/$defs/segment"}},
    {"if": {"properties": {"kind": {"const": "calendar"}}},
      "then": {"$ref": "#/$defs/calendar"}},
    {"if": {"properties": {"kind": {"const": "quiet_hours"}}},
      "then": {"$ref": "#/$defs/quiet_hours"}},
    {"if": {"properties": {"kind": {"const": "cap"}}},
      "then": {"$ref": "#/$defs/cap"}},
    {"if": {"properties": {"kind": {"const": "offer"}}},
      "then": {"$ref": "#/$defs/offer"}},
    {"if": {"properties": {"kind": {"const": "placement"}}},
      "then": {"$ref": "#/$defs/placement"}},
    {"if": {"properties": {"kind": {"const": "decision_policy"}}},
      "then": {"$ref": "#/$defs/decision_policy"}},
    {"if": {"properties": {"kind": {"const": "layer"}}},
      "then": {"$ref": "#/$defs/layer"}},
    {"if": {"properties": {"kind": {"const": "experiment"}}},
      "then": {"$ref": "#/$defs/experiment"}},
    {"if": {"properties": {"kind": {"const": "holdout"}}},
      "then": {"$ref": "#/$defs/holdout"}},
    {"if": {"properties": {"kind": {"const": "test"}}},
      "then": {"$ref": "#/$defs/test"}}
  ],
  "$defs": {
    "workspace": {
      "description": "What is true for everybody. A set has at most one.",
      "type": "object",
      "additionalProperties": false,
      "properties": {
` + schemaMeta +
	`        "timezone": {"$ref": "#/$defs/zone", "default": "UTC"},
        "zones": {
          "description": "Where its people live: judges those without a zone. Default: timezone.",
          "type": "array",
          "items": {"$ref": "#/$defs/zone"},
          "minItems": 1,
          "uniqueItems": true
        },
        "on_missing_timezone": {"enum": ["protect", "workspace"], "default": "protect"},
        "locale": {"$ref": "#/$defs/locale", "default": "en"},
        "currency": {"description": "ISO 4217.", "type": "string", "pattern": "^[A-Z]{3}$"},
        "consent_required": {"$ref": "#/$defs/channels"},
        "undeclared": {"enum": ["keep", "reject"], "default": "keep"},
        "identity_order": {"$ref": "#/$defs/ids", "default": ["user_id"]},
        "quiet_hours": {
          "type": "object",
          "additionalProperties": false,
          "required": ["channels", "windows"],
          "properties": {
            "channels": {"$ref": "#/$defs/channels"},
            "classes": {"$ref": "#/$defs/bound_classes", "default": ["marketing"]},
            "windows": {"$ref": "#/$defs/day_windows"},
            "when_hit": {"enum": ["hold", "drop"], "default": "hold"}
          }
        }
      }
    },
    "attribute": {
      "description": "A user attribute.",
      "type": "object",
      "additionalProperties": false,
      "required": ["type"],
      "properties": {
        "kind": true,
        "id": {"$ref": "#/$defs/data_name"},
        "name": {"$ref": "#/$defs/human"},
        "description": {"$ref": "#/$defs/human"},
        "owner": {"$ref": "#/$defs/text"},
        "labels": {"$ref": "#/$defs/labels"},
        "type": {"$ref": "#/$defs/type"},
        "class": {"enum": ["public", "internal", "personal", "sensitive"], "default": "internal"},
        "values": {"$ref": "#/$defs/values"},
        "conflict": {"const": "newest", "default": "newest"},
        "migrate": {
          "description": "What becomes of values of the type it had before.",
          "enum": ["cast", "drop"]
        }
      },
      "if": {"required": ["values"]},
      "then": {"properties": {"type": {"const": "string"}}}
    },
    "tag": {
      "description": "A label tag, or with values an enum tag.",
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "kind": true,
        "id": {"$ref": "#/$defs/data_name"},
        "name": {"$ref": "#/$defs/human"},
        "description": {"$ref": "#/$defs/human"},
        "owner": {"$ref": "#/$defs/text"},
        "labels": {"$ref": "#/$defs/labels"},
        "namespace": {
          "description": "A brand of the group: everything else names the tag namespace/id.",
          "$ref": "#/$defs/id"
        },
        "values": {"$ref": "#/$defs/values"},
        "ttl": {"description": "How long a person holds it.", "$ref": "#/$defs/duration"},
        "formerly": {
          "description": "Names it had, or of tags merged into it: their holders hold it.",
          "type": "array",
          "items": {"$ref": "#/$defs/data_name"},
          "minItems": 1,
          "maxItems": 10000,
          "uniqueItems": true
        }
      }
    },
    "tier": {
      "description": "A model that gives a person one of a few levels, the lowest first.",
      "type": "object",
      "additionalProperties": false,
      "required": ["levels"],
      "properties": {
` + schemaMeta +
	`        "levels": {"$ref": "#/$defs/values"}
      }
    },
    "event": {
      "description": "An event and its properties.",
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "kind": true,
        "id": {"$ref": "#/$defs/data_name"},
        "name": {"$ref": "#/$defs/human"},
        "description": {"$ref": "#/$defs/human"},
        "owner": {"$ref": "#/$defs/text"},
        "labels": {"$ref": "#/$defs/labels"},
        "properties": {
          "type": "object",
          "maxProperties": 512,
          "propertyNames": {"$ref": "#/$defs/data_name"},
          "additionalProperties": {
            "type": "object",
            "additionalProperties": false,
            "required": ["type"],
            "properties": {
              "type": {"$ref": "#/$defs/type"},
              "indexed": {
                "description": "Kept in a person's tail; at most 8 of an event.",
                "type": "boolean",
                "default": false
              }
            }
          }
        }
      }
    },
    "segment": {
      "description": "A named group of people: filled by upload, or by a rule.",
      "type": "object",
      "additionalProperties": false,
      "oneOf": [{"required": ["members"]}, {"required": ["rule"]}],
      "properties": {
` + schemaMeta +
	`        "members": {"const": "static"},
        "rule": {"$ref": "#/$defs/tree"},
        "track": {
          "description": "Keeps the members, their number over time, who enters, who leaves.",
          "type": "boolean",
          "default": false
        }
      }
    },
    "cap": {
      "description": "How often something may happen.",
      "type": "object",
      "additionalProperties": false,
      "required": ["scope", "per", "count_on", "window", "limit"],
      "properties": {
` + schemaMeta +
	`        "scope": {"enum": ["person", "identity", "device", "total"]},
        "per": {"enum": ["all", "offer", "offer_group", "campaign", "channel", "placement"]},
        "applies_to": {
          "description": "Absent: everything.",
          "type": "object",
          "additionalProperties": false,
          "minProperties": 1,
          "properties": {
            "offers": {"$ref": "#/$defs/selector"},
            "channels": {"$ref": "#/$defs/channels", "minItems": 1},
            "placements": {"$ref": "#/$defs/ids", "minItems": 1},
            "message_classes": {"$ref": "#/$defs/classes", "minItems": 1}
          }
        },
        "count_on": {
          "description": "Contacts, or decision, or reactions and declared events.",
          "anyOf": [
            {"$ref": "#/$defs/data_name"},
            {
              "type": "array",
              "minItems": 1,
              "maxItems": 25,
              "uniqueItems": true,
              "anyOf": [
                {"items": {"enum": ["impression", "send", "delivered"]}},
                {"items": {"const": "decision"}},
                {"$ref": "#/$defs/rejections"}
              ]
            }
          ]
        },
        "window": {"$ref": "#/$defs/cap_window"},
        "limit": {
          "description": "0 = never. {amount, currency}: of scope total, a budget in money.",
          "anyOf": [
            {"type": "integer", "minimum": 0},
            {"$ref": "#/$defs/money"},
            {
              "type": "object",
              "additionalProperties": false,
              "required": ["attribute", "default", "max"],
              "properties": {
                "attribute": {"$ref": "#/$defs/data_name"},
                "default": {"type": "integer", "minimum": 0, "maximum": 1000000},
                "max": {"type": "integer", "minimum": 0, "maximum": 1000000}
              }
            }
          ]
        },
        "spends": {
          "description": "Of a budget in money: the offer's cost, or the outcome's value.",
          "enum": ["cost", "value"],
          "default": "cost"
        },
        "min_gap": {"$ref": "#/$defs/duration"},
        "exempt": {"$ref": "#/$defs/classes"},
        "hold": {
          "description": "Life of a reservation. Default: 10m on page channels, 24h elsewhere.",
          "$ref": "#/$defs/duration"
        },
        "confirm_grace": {"$ref": "#/$defs/duration", "default": "5m"},
        "counts_from": {"enum": ["publish", "history"], "default": "publish"},
        "pacing": {
          "description": "Of scope total: how units are spread over the window.",
          "anyOf": [
            {"enum": ["asap", "even", "front_loaded"]},
            {
              "type": "object",
              "additionalProperties": false,
              "required": ["by"],
              "properties": {
                "by": {"enum": ["asap", "even", "front_loaded"]},
                "hours": {
                  "description": "Weights of the hours of the day. Absent: all alike.",
                  "anyOf": [
                    {"const": "learned"},
                    {
                      "type": "array",
                      "minItems": 24,
                      "maxItems": 24,
                      "items": {"type": "number", "minimum": 0, "maximum": 1000000}
                    }
                  ]
                }
              }
            }
          ]
        },
        "suppress": {
          "description": "Closed for a time after every rejection from the after-th on.",
          "type": "object",
          "additionalProperties": false,
          "required": ["after", "of", "for"],
          "properties": {
            "after": {"type": "integer", "minimum": 1, "maximum": 64},
            "of": {"anyOf": [{"$ref": "#/$defs/rejection"}, {"$ref": "#/$defs/rejections"}]},
            "for": {"$ref": "#/$defs/duration"}
          }
        }
      },
      "if": {"properties": {"scope": {"const": "total"}}},
      "then": {
        "properties": {
          "window": {
            "anyOf": [
              {"const": "lifetime"},
              {
                "required": ["calendar"],
                "properties": {"zone": {"enum": ["workspace", "UTC"]}}
              },
              {"required": ["between"]},
              {"required": ["rolling"]}
            ]
          },
          "limit": {
            "anyOf": [{"$ref": "#/$defs/money"}, {"type": "integer", "maximum": 1000000000000}]
          },
          "counts_from": {"const": "publish"},
          "suppress": false
        }
      },
      "else": {
        "properties": {
          "limit": {"maximum": 1000000, "not": {"type": "object", "required": ["currency"]}},
          "spends": false
        }
      }
    },
`
