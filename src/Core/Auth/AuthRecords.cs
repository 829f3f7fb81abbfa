// AuthRecords: users, roles and permissions as values, and their protobuf form in the buckets.
//
// Names are bytes to etcd. Here a name is a string with one char per byte (Latin-1), so ordinal order is byte
// order and no byte sequence is lost; it is never shown to anybody in this form.
// Layout     authUsers: name -> authpb.User {1 name, 2 password, 3 repeated roles, 4 options {1 no_password}}
//            authRoles: name -> authpb.Role {1 name, 2 repeated permission {1 type, 2 key, 3 range_end}}
using System;
using System.Buffers;
using System.Collections.Generic;
using System.Text;
using Cairn.Base;

namespace Cairn.Core.Auth;

/// <summary>Kinds of permission; the numbers are on disk.</summary>
internal enum PermissionKind
{
    Read = 0,
    Write = 1,
    ReadWrite = 2,
}

/// <summary>Names as one char per byte.</summary>
internal static class ByteName
{
    public const string Root = "root";

    public static string From(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);

    public static byte[] ToBytes(string name) => Encoding.Latin1.GetBytes(name);
}

/// <summary>A right on a range of keys.</summary>
internal sealed record AuthPermission(PermissionKind Kind, byte[] Key, byte[] RangeEnd)
{
    public bool HasRange(ReadOnlySpan<byte> key, ReadOnlySpan<byte> rangeEnd) =>
        key.SequenceEqual(Key) && rangeEnd.SequenceEqual(RangeEnd);

    public byte[] Encode()
    {
        byte[] buffer = new byte[12 + ProtoSize.BytesField(2, Key.Length) + ProtoSize.BytesField(3, RangeEnd.Length)];
        var writer = new ProtoWriter(buffer);
        writer.WriteVarintFieldIfSet(1, (ulong)(long)Kind);
        writer.WriteBytesFieldIfSet(2, Key);
        writer.WriteBytesFieldIfSet(3, RangeEnd);
        return buffer[..writer.Position];
    }

    public static bool TryParse(ReadOnlySpan<byte> data, out AuthPermission permission)
    {
        var fields = new AuthFields();
        bool parsed = fields.TryParse(data, bytesFields: 0b1100, varintFields: 0b10);
        permission = new AuthPermission((PermissionKind)(int)fields.Number1, fields.Bytes(2), fields.Bytes(3));
        return parsed;
    }
}

/// <summary>A user; immutable.</summary>
/// <param name="Name">One char per byte.</param>
/// <param name="Password">The bcrypt string, or empty.</param>
/// <param name="Roles">Sorted.</param>
/// <param name="HasOptions">Whether the record carries an options message, as all made since 3.4 do.</param>
/// <param name="NoPassword">May only come in by certificate.</param>
internal sealed record AuthUser(string Name, byte[] Password, string[] Roles, bool HasOptions, bool NoPassword)
{
    public bool HasRole(string role) => Array.IndexOf(Roles, role) >= 0;

    public byte[] Encode()
    {
        int size = ProtoSize.BytesField(1, Name.Length) + ProtoSize.BytesField(2, Password.Length) + 4;
        foreach (string role in Roles)
        {
            size += ProtoSize.BytesField(3, role.Length);
        }

        byte[] buffer = new byte[size];
        var writer = new ProtoWriter(buffer);
        writer.WriteBytesFieldIfSet(1, ByteName.ToBytes(Name));
        writer.WriteBytesFieldIfSet(2, Password);
        foreach (string role in Roles)
        {
            writer.WriteBytesField(3, ByteName.ToBytes(role));
        }

        if (HasOptions)
        {
            writer.WriteBytesField(4, NoPassword ? [0x08, 0x01] : []);
        }

        return buffer[..writer.Position];
    }

    public static bool TryParse(ReadOnlySpan<byte> data, out AuthUser user)
    {
        string name = string.Empty;
        byte[] password = [];
        var roles = new List<string>();
        bool hasOptions = false;
        bool noPassword = false;
        bool valid = true;
        var reader = new ProtoReader(data);
        while (reader.NextField())
        {
            if (reader.Field > 4)
            {
                reader.Skip();
                continue;
            }

            valid &= reader.Wire == WireType.Bytes;
            if (!valid)
            {
                break;
            }

            ReadOnlySpan<byte> value = reader.ReadBytes();
            switch (reader.Field)
            {
                case 1:
                    name = ByteName.From(value);
                    break;
                case 2:
                    password = value.ToArray();
                    break;
                case 3:
                    roles.Add(ByteName.From(value));
                    break;
                default:
                    hasOptions = true;
                    valid &= TryParseOptions(value, ref noPassword);
                    break;
            }
        }

        roles.Sort(StringComparer.Ordinal);
        user = new AuthUser(name, password, roles.ToArray(), hasOptions, noPassword);
        return valid && !reader.Failed;
    }

    /// <summary>UserAddOptions {1 no_password}; merges into <paramref name="noPassword"/>.</summary>
    public static bool TryParseOptions(ReadOnlySpan<byte> data, ref bool noPassword)
    {
        var reader = new ProtoReader(data);
        while (reader.NextField())
        {
            if (reader.Field != 1)
            {
                reader.Skip();
            }
            else if (reader.Wire != WireType.Varint)
            {
                return false;
            }
            else
            {
                noPassword = reader.ReadBool();
            }
        }

        return !reader.Failed;
    }
}

/// <summary>A role; immutable.</summary>
/// <param name="Name">One char per byte.</param>
/// <param name="Permissions">Sorted by key.</param>
internal sealed record AuthRole(string Name, AuthPermission[] Permissions)
{
    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>();
        WriteBytes(buffer, 1, ByteName.ToBytes(Name));
        foreach (AuthPermission permission in Permissions)
        {
            WriteBytes(buffer, 2, permission.Encode());
        }

        return buffer.WrittenSpan.ToArray();
    }

    public static bool TryParse(ReadOnlySpan<byte> data, out AuthRole role)
    {
        string name = string.Empty;
        var permissions = new List<AuthPermission>();
        bool valid = true;
        var reader = new ProtoReader(data);
        while (valid && reader.NextField())
        {
            if (reader.Field > 2)
            {
                reader.Skip();
                continue;
            }

            valid = reader.Wire == WireType.Bytes;
            if (!valid)
            {
                break;
            }

            ReadOnlySpan<byte> value = reader.ReadBytes();
            if (reader.Field == 1)
            {
                name = ByteName.From(value);
            }
            else
            {
                valid = AuthPermission.TryParse(value, out AuthPermission permission);
                permissions.Add(permission);
            }
        }

        role = new AuthRole(name, permissions.ToArray());
        return valid && !reader.Failed;
    }

    /// <summary>Appends one length-delimited field.</summary>
    public static void WriteBytes(IBufferWriter<byte> output, int field, ReadOnlySpan<byte> value)
    {
        var writer = new ProtoWriter(output.GetSpan(ProtoSize.BytesField(field, value.Length)));
        writer.WriteBytesField(field, value);
        output.Advance(writer.Position);
    }
}

/// <summary>Reader of the small auth messages, whose fields are numbered 1 to 4.</summary>
internal ref struct AuthFields
{
    private ReadOnlySpan<byte> _first;
    private ReadOnlySpan<byte> _second;
    private ReadOnlySpan<byte> _third;
    private ReadOnlySpan<byte> _fourth;
    private int _seen;

    /// <summary>Value of field 1 when it is a varint.</summary>
    public ulong Number1 { get; private set; }

    /// <summary>Reads all; the masks have bit N set for field N of that wire type.</summary>
    public bool TryParse(ReadOnlySpan<byte> data, int bytesFields, int varintFields = 0)
    {
        var reader = new ProtoReader(data);
        while (reader.NextField())
        {
            int field = reader.Field;
            int bit = field < 30 ? 1 << field : 0;
            if (((bytesFields | varintFields) & bit) == 0)
            {
                reader.Skip();
                continue;
            }

            bool isBytes = (bytesFields & bit) != 0;
            if (reader.Wire != (isBytes ? WireType.Bytes : WireType.Varint))
            {
                return false;
            }

            _seen |= bit;
            if (!isBytes)
            {
                Number1 = reader.ReadVarint();
                continue;
            }

            ReadOnlySpan<byte> value = reader.ReadBytes();
            switch (field)
            {
                case 1:
                    _first = value;
                    break;
                case 2:
                    _second = value;
                    break;
                case 3:
                    _third = value;
                    break;
                default:
                    _fourth = value;
                    break;
            }
        }

        return !reader.Failed;
    }

    /// <summary>Whether the field was there at all.</summary>
    public readonly bool Has(int field) => (_seen & (1 << field)) != 0;

    public readonly ReadOnlySpan<byte> Span(int field) => field switch
    {
        1 => _first,
        2 => _second,
        3 => _third,
        _ => _fourth,
    };

    public readonly byte[] Bytes(int field) => Span(field).ToArray();

    public readonly string Name(int field) => ByteName.From(Span(field));
}
