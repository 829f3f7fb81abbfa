// QueueKeys: the keys that locks and elections live in, and the requests about them. Pure.
//
// Names      name + "/" + the lease in lower-case hexadecimal without padding, a sign before a negative one. The queue of a
//            name is every key under name + "/", by create revision; the first of them holds the lock, or leads.
//            Other clients of the same data (etcd's own libraries) rely on both.
using System;
using System.Globalization;
using System.Text;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Coordination;

/// <summary>Names and request bytes of one queue.</summary>
internal static class QueueKeys
{
    private const int RangeField = (int)RequestOpKind.Range;
    private const int PutField = (int)RequestOpKind.Put;
    private const int DeleteField = (int)RequestOpKind.DeleteRange;
    private const int CompareList = 1;
    private const int SuccessList = 2;
    private const int FailureList = 3;

    /// <summary>The prefix all keys of a name share.</summary>
    public static byte[] Prefix(ReadOnlySpan<byte> name)
    {
        byte[] prefix = new byte[name.Length + 1];
        name.CopyTo(prefix);
        prefix[^1] = (byte)'/';
        return prefix;
    }

    /// <summary>The first key behind all that begin with the prefix: it ends with a slash, behind which comes a zero.</summary>
    public static byte[] PrefixEnd(byte[] prefix)
    {
        byte[] end = [.. prefix];
        end[^1]++;
        return end;
    }

    /// <summary>The key of a lease in the queue.</summary>
    public static byte[] Key(byte[] prefix, long lease)
    {
        string number = lease < 0
            ? "-" + unchecked(0UL - (ulong)lease).ToString("x", CultureInfo.InvariantCulture)
            : lease.ToString("x", CultureInfo.InvariantCulture);
        byte[] key = new byte[prefix.Length + number.Length];
        prefix.CopyTo(key, 0);
        Encoding.ASCII.GetBytes(number, key.AsSpan(prefix.Length));
        return key;
    }

    /// <summary>RangeRequest: the oldest key of the queue.</summary>
    public static byte[] Oldest(byte[] prefix) => Encode(new RangeRequest
    {
        Key = prefix,
        RangeEnd = PrefixEnd(prefix),
        Limit = 1,
        SortOrder = SortOrder.Ascend,
        SortTarget = SortTarget.Create,
    });

    /// <summary>RangeRequest: the youngest key of the queue that is not younger than a revision.</summary>
    public static byte[] Youngest(byte[] prefix, long maxCreateRevision) => Encode(new RangeRequest
    {
        Key = prefix,
        RangeEnd = PrefixEnd(prefix),
        Limit = 1,
        SortOrder = SortOrder.Descend,
        SortTarget = SortTarget.Create,
        MaxCreateRevision = maxCreateRevision,
    });

    /// <summary>RangeRequest: one key.</summary>
    public static byte[] One(byte[] key) => Encode(new RangeRequest { Key = key });

    /// <summary>DeleteRangeRequest: one key.</summary>
    public static byte[] Delete(ReadOnlySpan<byte> key)
    {
        var request = new DeleteRangeRequest { Key = key };
        byte[] bytes = new byte[request.Size];
        var writer = new ProtoWriter(bytes);
        request.Write(ref writer);
        return bytes;
    }

    /// <summary>
    /// TxnRequest: where the key is not there yet it is put with the lease; else it is read. With a queue both branches
    /// also read its oldest key.
    /// </summary>
    public static byte[] Enter(byte[] key, byte[] value, long lease, byte[]? queue)
    {
        byte[] compare = IsCreatedAt(key, 0);
        byte[] put = Field(PutField, Put(key, value, lease));
        byte[] own = Field(RangeField, One(key));
        byte[] oldest = queue is null ? [] : Field(RangeField, Oldest(queue));
        byte[] tail = queue is null ? [] : Field(SuccessList, oldest);
        byte[] otherTail = queue is null ? [] : Field(FailureList, oldest);
        return [.. Field(CompareList, compare), .. Field(SuccessList, put), .. tail, .. Field(FailureList, own), .. otherTail];
    }

    /// <summary>TxnRequest: puts the key if it still is the one created at that revision.</summary>
    public static byte[] Replace(byte[] key, long created, byte[] value, long lease)
        => [.. Field(CompareList, IsCreatedAt(key, created)), .. Field(SuccessList, Field(PutField, Put(key, value, lease)))];

    /// <summary>TxnRequest: deletes the key if it still is the one created at that revision.</summary>
    public static byte[] Leave(byte[] key, long created)
        => [.. Field(CompareList, IsCreatedAt(key, created)), .. Field(SuccessList, Field(DeleteField, Delete(key)))];

    private static byte[] IsCreatedAt(byte[] key, long revision)
    {
        var compare = new Compare
        {
            Target = CompareTarget.Create,
            Key = key,
            Operand = CompareOperand.CreateRevision,
            Number = revision,
        };
        byte[] bytes = new byte[compare.Size];
        var writer = new ProtoWriter(bytes);
        compare.Write(ref writer);
        return bytes;
    }

    private static byte[] Put(byte[] key, byte[] value, long lease)
    {
        var request = new PutRequest { Key = key, Value = value, Lease = lease };
        byte[] bytes = new byte[request.Size];
        var writer = new ProtoWriter(bytes);
        request.Write(ref writer);
        return bytes;
    }

    private static byte[] Encode(scoped in RangeRequest request)
    {
        byte[] bytes = new byte[request.Size];
        var writer = new ProtoWriter(bytes);
        request.Write(ref writer);
        return bytes;
    }

    private static byte[] Field(int field, byte[] value)
    {
        byte[] bytes = new byte[ProtoSize.BytesField(field, value.Length)];
        var writer = new ProtoWriter(bytes);
        writer.WriteBytesField(field, value);
        return bytes;
    }
}
