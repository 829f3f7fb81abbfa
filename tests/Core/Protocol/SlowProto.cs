// SlowProto: two slow and obvious readers of the key-value messages, to compare the fast views with.
//
// Etcd36   what the generated code of etcd 3.6 does: a known field of a wrong wire type is an error, bits of a varint
//          above the 64th fall off, tags are cut to 32 bits, groups are skipped by counting, the last member of a
//          oneof counts whole.
// Book     what protobuf's own Go runtime (etcd 3.7) does: a known field of a wrong wire type is an unknown field,
//          varints must fit 64 bits, field numbers end at 2^29-1, group ends must match, a repeated member of a oneof
//          merges.
// Both give a tree of plain values, or null for bytes they refuse. Bytes fields remember presence: "" is not null.
using System;
using System.Collections.Generic;
using System.Numerics;
using System.Text;

namespace Cairn.Core.Tests.Protocol;

internal enum FieldKind
{
    Number,
    Flag,
    Enum,
    Bytes,
    Message,
}

internal sealed record SlowField(int Number, string Name, FieldKind Kind, SlowSchema? Message = null, bool Repeated = false, string? OneOf = null);

internal sealed class SlowSchema
{
    public List<SlowField> Fields { get; } = [];

    public SlowField? Find(int number) => Fields.Find(f => f.Number == number);

    public static readonly SlowSchema Range = Of(
        "1b key;2b range_end;3n limit;4n revision;5e sort_order;6e sort_target;7f serializable;8f keys_only;9f count_only;"
        + "10n min_mod;11n max_mod;12n min_create;13n max_create");

    public static readonly SlowSchema Put = Of("1b key;2b value;3n lease;4f prev_kv;5f ignore_value;6f ignore_lease");
    public static readonly SlowSchema Delete = Of("1b key;2b range_end;3f prev_kv");
    public static readonly SlowSchema Compaction = Of("1n revision;2f physical");
    public static readonly SlowSchema KeyValue = Of("1b key;2n create;3n mod;4n version;5b value;6n lease");

    public static readonly SlowSchema Compare = Of(
        "1e result;2e target;3b key;4n* version;5n* create;6n* mod;7b* value;8n* lease;64b range_end");

    public static readonly SlowSchema Op = new();
    public static readonly SlowSchema Txn = new();

    static SlowSchema()
    {
        Op.Fields.Add(new SlowField(1, "range", FieldKind.Message, Range, false, "request"));
        Op.Fields.Add(new SlowField(2, "put", FieldKind.Message, Put, false, "request"));
        Op.Fields.Add(new SlowField(3, "delete", FieldKind.Message, Delete, false, "request"));
        Op.Fields.Add(new SlowField(4, "txn", FieldKind.Message, Txn, false, "request"));
        Txn.Fields.Add(new SlowField(1, "compare", FieldKind.Message, Compare, true));
        Txn.Fields.Add(new SlowField(2, "success", FieldKind.Message, Op, true));
        Txn.Fields.Add(new SlowField(3, "failure", FieldKind.Message, Op, true));
    }

    private static SlowSchema Of(string text)
    {
        var schema = new SlowSchema();
        foreach (string part in text.Split(';'))
        {
            string[] words = part.Split(' ');
            string head = words[0];
            bool inOneOf = head.EndsWith('*');
            head = head.TrimEnd('*');
            FieldKind kind = head[^1] switch
            {
                'b' => FieldKind.Bytes,
                'n' => FieldKind.Number,
                'f' => FieldKind.Flag,
                _ => FieldKind.Enum,
            };
            schema.Fields.Add(new SlowField(int.Parse(head[..^1]), words[1], kind, null, false, inOneOf ? "union" : null));
        }

        return schema;
    }
}

/// <summary>A decoded message: field name to long, bool, int, byte[], tree or list of trees.</summary>
internal sealed class SlowTree
{
    public Dictionary<string, object> Values { get; } = [];

    public long Number(string name) => Values.TryGetValue(name, out object? v) ? (long)v : 0;

    public bool Flag(string name) => Values.TryGetValue(name, out object? v) && (bool)v;

    public int Enum(string name) => Values.TryGetValue(name, out object? v) ? (int)v : 0;

    public byte[] Bytes(string name) => Values.TryGetValue(name, out object? v) ? (byte[])v : [];

    public bool Has(string name) => Values.ContainsKey(name);

    public List<SlowTree> List(string name) => Values.TryGetValue(name, out object? v) ? (List<SlowTree>)v : [];

    /// <summary>One text per meaning: absent and default are the same, but for members of a oneof.</summary>
    public string Describe(SlowSchema schema)
    {
        var text = new StringBuilder("{");
        foreach (SlowField field in schema.Fields)
        {
            if (!Values.TryGetValue(field.Name, out object? value))
            {
                continue;
            }

            bool isDefault = value is 0L or 0 or false || (value is byte[] { Length: 0 });
            if (isDefault && field.OneOf == null)
            {
                continue;
            }

            _ = text.Append(field.Name).Append('=');
            _ = value switch
            {
                byte[] bytes => text.Append(Convert.ToHexString(bytes)),
                SlowTree tree => text.Append(tree.Describe(field.Message!)),
                List<SlowTree> list => text.Append('[').AppendJoin(',', list.ConvertAll(t => t.Describe(field.Message!))).Append(']'),
                _ => text.Append(value),
            };
            _ = text.Append(' ');
        }

        return text.Append('}').ToString();
    }
}

internal static class SlowProto
{
    public static SlowTree? Etcd36(SlowSchema schema, byte[] data) => Read(schema, data, true, new SlowTree());

    public static SlowTree? Book(SlowSchema schema, byte[] data) => Read(schema, data, false, new SlowTree());

    /// <summary>True if some bytes field without a oneof is present but empty: 3.6 tells that from absent.</summary>
    public static bool HasExplicitEmpty(SlowSchema schema, SlowTree tree)
    {
        foreach (SlowField field in schema.Fields)
        {
            if (tree.Values.TryGetValue(field.Name, out object? value)
                && ((value is byte[] { Length: 0 } && field.OneOf == null)
                    || (value is SlowTree inner && HasExplicitEmpty(field.Message!, inner))
                    || (value is List<SlowTree> list && list.Exists(t => HasExplicitEmpty(field.Message!, t)))))
            {
                return true;
            }
        }

        return false;
    }

    private static SlowTree? Read(SlowSchema schema, byte[] data, bool etcd36, SlowTree into)
    {
        int at = 0;
        while (at < data.Length)
        {
            if (!Varint(data, ref at, etcd36, out ulong tag))
            {
                return null;
            }

            long number;
            int wire = (int)(tag & 7);
            if (etcd36)
            {
                number = unchecked((int)(tag >> 3));
                if (number <= 0 || wire == 4)
                {
                    return null;
                }
            }
            else
            {
                number = (long)(tag >> 3);
                if (number is < 1 or > (1 << 29) - 1)
                {
                    return null;
                }
            }

            SlowField? field = schema.Find((int)number);
            int wanted = field == null ? -1 : field.Kind is FieldKind.Bytes or FieldKind.Message ? 2 : 0;
            if (field == null || wanted != wire)
            {
                if (field != null && etcd36)
                {
                    return null;
                }

                if (!(etcd36 ? SkipCounting(data, ref at, wire) : SkipMatching(data, ref at, wire, (int)number, 0)))
                {
                    return null;
                }

                continue;
            }

            object value;
            if (wanted == 0)
            {
                if (!Varint(data, ref at, etcd36, out ulong bits))
                {
                    return null;
                }

                value = field.Kind == FieldKind.Number ? unchecked((long)bits)
                    : field.Kind == FieldKind.Enum ? unchecked((int)bits)
                    : bits != 0;
            }
            else
            {
                if (!Varint(data, ref at, etcd36, out ulong length) || length > (ulong)(data.Length - at))
                {
                    return null;
                }

                byte[] body = data[at..(at + (int)length)];
                at += (int)length;
                if (field.Kind == FieldKind.Bytes)
                {
                    value = body;
                }
                else
                {
                    SlowTree target = !etcd36 && !field.Repeated && into.Values.TryGetValue(field.Name, out object? old)
                        ? (SlowTree)old
                        : new SlowTree();
                    if (Read(field.Message!, body, etcd36, target) == null)
                    {
                        return null;
                    }

                    value = target;
                }
            }

            if (field.Repeated)
            {
                if (!into.Values.TryGetValue(field.Name, out object? list))
                {
                    into.Values[field.Name] = list = new List<SlowTree>();
                }

                ((List<SlowTree>)list).Add((SlowTree)value);
                continue;
            }

            if (field.OneOf != null)
            {
                foreach (SlowField other in schema.Fields)
                {
                    if (other.OneOf == field.OneOf && other != field)
                    {
                        _ = into.Values.Remove(other.Name);
                    }
                }
            }

            into.Values[field.Name] = value;
        }

        return into;
    }

    private static bool Varint(byte[] data, ref int at, bool etcd36, out ulong value)
    {
        BigInteger sum = 0;
        value = 0;
        for (int i = 0; i < 10; i++)
        {
            if (at >= data.Length)
            {
                return false;
            }

            byte b = data[at++];
            sum += (BigInteger)(b & 0x7f) << (7 * i);
            if (b < 0x80)
            {
                if (!etcd36 && sum > ulong.MaxValue)
                {
                    return false;
                }

                value = (ulong)(sum & ulong.MaxValue);
                return true;
            }
        }

        return false;
    }

    private static bool SkipCounting(byte[] data, ref int at, int wire)
    {
        int open = 0;
        while (true)
        {
            switch (wire)
            {
                case 0:
                    if (!Varint(data, ref at, true, out _))
                    {
                        return false;
                    }

                    break;
                case 1:
                    at += 8;
                    break;
                case 2:
                    if (!Varint(data, ref at, true, out ulong length) || length > (ulong)data.Length)
                    {
                        return false;
                    }

                    at += (int)length;
                    break;
                case 3:
                    open++;
                    break;
                case 4:
                    open--;
                    break;
                case 5:
                    at += 4;
                    break;
                default:
                    return false;
            }

            if (at > data.Length)
            {
                return false;
            }

            if (open == 0)
            {
                return true;
            }

            if (!Varint(data, ref at, true, out ulong tag))
            {
                return false;
            }

            wire = (int)(tag & 7);
        }
    }

    private static bool SkipMatching(byte[] data, ref int at, int wire, int number, int depth)
    {
        switch (wire)
        {
            case 0:
                return Varint(data, ref at, false, out _);
            case 1:
                at += 8;
                return at <= data.Length;
            case 2:
                if (!Varint(data, ref at, false, out ulong length) || length > (ulong)(data.Length - at))
                {
                    return false;
                }

                at += (int)length;
                return true;
            case 5:
                at += 4;
                return at <= data.Length;
            case 3:
                while (depth < 10_000 && at < data.Length)
                {
                    if (!Varint(data, ref at, false, out ulong tag) || tag >> 3 is 0 or > (1 << 29) - 1)
                    {
                        return false;
                    }

                    if ((tag & 7) == 4)
                    {
                        return (int)(tag >> 3) == number;
                    }

                    if (!SkipMatching(data, ref at, (int)(tag & 7), (int)(tag >> 3), depth + 1))
                    {
                        return false;
                    }
                }

                return false;
            default:
                return false;
        }
    }
}
