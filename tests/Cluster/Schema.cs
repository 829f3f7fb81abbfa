// Schema: messages by name, decoded into lines `path = value` that can be compared and read.
//
// Everything that compares two servers goes through here: a field that is zero equals a field that is absent (except in a
// oneof or a list), the order of fields inside a message does not count, fields the schema does not know are kept and shown.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;

namespace Cairn.Cluster;

internal sealed record FieldType(int Number, string Name, string Type, bool Repeated, bool Oneof);

internal static class Schema
{
    private static readonly Dictionary<string, FieldType[]> s_messages = [];
    private static readonly Dictionary<string, (string Request, string Response)> s_methods = [];

    static Schema()
    {
        foreach (string line in File.ReadLines(Path.Combine(AppContext.BaseDirectory, "wire.schema")))
        {
            if (line.StartsWith('/'))
            {
                string[] parts = line.Split(' ');
                s_methods[parts[0]] = (parts[1], parts[2]);
            }
            else if (line.Length > 0 && line[0] != '#')
            {
                int colon = line.IndexOf(':', StringComparison.Ordinal);
                s_messages[line[..colon]] = line[(colon + 1)..]
                    .Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
                    .Select(ParseField).ToArray();
            }
        }
    }

    /// <summary>Message name of a method's request; null for a method the schema does not know.</summary>
    public static string? Request(string method) => s_methods.TryGetValue(method, out (string Request, string) m) ? m.Request : null;

    /// <summary>Message name of a method's response; null for a method the schema does not know.</summary>
    public static string? Response(string method) => s_methods.TryGetValue(method, out (string, string Response) m) ? m.Response : null;

    /// <summary>The message as lines in field order; a body that cannot be decoded is one line that says so.</summary>
    public static List<string> Lines(string? message, ReadOnlySpan<byte> body)
    {
        List<string> lines = [];
        if (!Decode(message, body, "", lines, 0))
        {
            lines.Add("undecodable: " + Convert.ToHexString(body));
        }

        return lines;
    }

    /// <summary>Value of the first line whose path is given, "" when absent.</summary>
    public static string Value(List<string> lines, string path)
    {
        foreach (string line in lines)
        {
            if (line.StartsWith(path, StringComparison.Ordinal) && line.AsSpan(path.Length).StartsWith(" = "))
            {
                return line[(path.Length + 3)..];
            }
        }

        return "";
    }

    /// <summary>The number at a path, 0 when absent.</summary>
    public static long Number(List<string> lines, string path)
    {
        string value = Value(lines, path);
        return value.Length == 0 ? 0 : (long)decimal.Parse(value, CultureInfo.InvariantCulture);
    }

    /// <summary>Bytes as people read them: printable ASCII as it is, the rest as \xNN, long values by length and hash.</summary>
    public static string Show(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > 4096)
        {
            return $"({bytes.Length} bytes, sha256 {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(bytes))[..16]})";
        }

        StringBuilder text = new("\"");
        foreach (byte b in bytes)
        {
            if (b is >= 0x20 and < 0x7f and not (byte)'"' and not (byte)'\\')
            {
                text.Append((char)b);
            }
            else
            {
                text.Append("\\x").Append(b.ToString("x2", CultureInfo.InvariantCulture));
            }
        }

        return text.Append('"').ToString();
    }

    private static FieldType ParseField(string text)
    {
        string[] parts = text.Split(' ');
        string type = parts[2];
        bool oneof = type.EndsWith('?');
        bool repeated = type.EndsWith('*');
        return new FieldType(int.Parse(parts[0], CultureInfo.InvariantCulture), parts[1], type.TrimEnd('?', '*'), repeated, oneof);
    }

    private static bool Decode(string? message, ReadOnlySpan<byte> body, string prefix, List<string> lines, int depth)
    {
        FieldType[] fields = message is not null && s_messages.TryGetValue(message, out FieldType[]? known) ? known : [];
        List<(int Number, int Order, List<string> Lines)> found = [];
        Dictionary<int, int> counts = [];
        int at = 0;
        while (at < body.Length)
        {
            if (depth > 50 || !Varint(body, ref at, out ulong tag))
            {
                return false;
            }

            int number = (int)(tag >> 3);
            int wire = (int)(tag & 7);
            FieldType? field = Array.Find(fields, f => f.Number == number);
            int index = counts.GetValueOrDefault(number);
            counts[number] = index + 1;
            string path = prefix + (field?.Name ?? "?" + number) + (field is { Repeated: true } || (field is null && index > 0) ? $"[{index}]" : "");
            bool always = field is null or { Repeated: true } or { Oneof: true };
            List<string> own = [];
            ulong value;
            switch (wire)
            {
                case 0:
                    if (!Varint(body, ref at, out value))
                    {
                        return false;
                    }

                    if (value != 0 || always)
                    {
                        own.Add(path + " = " + (field?.Type is "uint64" or "uint32"
                            ? value.ToString(CultureInfo.InvariantCulture) : ((long)value).ToString(CultureInfo.InvariantCulture)));
                    }

                    break;
                case 2:
                    if (!Varint(body, ref at, out ulong length) || length > (ulong)(body.Length - at))
                    {
                        return false;
                    }

                    ReadOnlySpan<byte> data = body.Slice(at, (int)length);
                    at += (int)length;
                    if (field is not null && s_messages.ContainsKey(field.Type))
                    {
                        if (!Decode(field.Type, data, path + ".", own, depth + 1))
                        {
                            return false;
                        }

                        // Presence of a message is information (prev_kv, a oneof's choice); an empty one has no line of its own.
                        own.Insert(0, path + " {}");
                    }
                    else if (length > 0 || always)
                    {
                        own.Add(path + " = " + Show(data));
                    }

                    break;
                case 1 or 5:
                    int size = wire == 1 ? 8 : 4;
                    if (body.Length - at < size)
                    {
                        return false;
                    }

                    own.Add(path + " = fixed " + Convert.ToHexString(body.Slice(at, size)));
                    at += size;
                    break;
                default:
                    return false;
            }

            found.Add((number, found.Count, own));
        }

        found.Sort((a, b) => a.Number != b.Number ? a.Number.CompareTo(b.Number) : a.Order.CompareTo(b.Order));
        foreach ((_, _, List<string> own) in found)
        {
            lines.AddRange(own);
        }

        return true;
    }

    private static bool Varint(ReadOnlySpan<byte> body, ref int at, out ulong value)
    {
        value = 0;
        for (int shift = 0; shift < 70 && at < body.Length; shift += 7)
        {
            byte b = body[at++];
            value |= (ulong)(b & 0x7f) << shift;
            if (b < 0x80)
            {
                return true;
            }
        }

        return false;
    }
}
