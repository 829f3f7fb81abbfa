// PlainBolt: a slow, obvious reader of bbolt files, written from the format description and sharing no code with
// src/Btree, so that both can be held against each other.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Text;

namespace Cairn.Core.Tests.Support;

internal sealed class PlainBolt
{
    private readonly byte[] _file;
    private readonly int _pageSize;

    public PlainBolt(string path)
    {
        _file = File.ReadAllBytes(path);
        _pageSize = (int)U32(16 + 8);
        ulong first = U64(16 + 48);
        ulong second = U64(_pageSize + 16 + 48);
        int meta = second > first ? _pageSize : 0;
        Walk((long)U64(meta + 16 + 16) * _pageSize, (key, value, isBucket, offset) =>
        {
            Xunit.Assert.True(isBucket);
            var bucket = new SortedDictionary<string, byte[]>(StringComparer.Ordinal);
            ulong root = BinaryPrimitives.ReadUInt64LittleEndian(value);
            Walk(root == 0 ? offset + 16 : (long)root * _pageSize, (k, v, _, _) => bucket.Add(Hex(k), v.ToArray()));
            Buckets.Add(Encoding.ASCII.GetString(key), bucket);
        });
    }

    /// <summary>Bucket name, then key in hex, to value.</summary>
    public SortedDictionary<string, SortedDictionary<string, byte[]>> Buckets { get; } = new(StringComparer.Ordinal);

    private delegate void Visit(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, bool isBucket, long valueOffset);

    public static string Hex(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(bytes);

    private void Walk(long page, Visit visit)
    {
        int flags = BinaryPrimitives.ReadUInt16LittleEndian(_file.AsSpan((int)page + 8));
        int count = BinaryPrimitives.ReadUInt16LittleEndian(_file.AsSpan((int)page + 10));
        for (int i = 0; i < count; i++)
        {
            long element = page + 16 + (16 * i);
            if (flags == 1)
            {
                Walk((long)U64(element + 8) * _pageSize, visit);
                continue;
            }

            long key = element + U32(element + 4);
            int keyLength = (int)U32(element + 8);
            int valueLength = (int)U32(element + 12);
            visit(
                _file.AsSpan((int)key, keyLength),
                _file.AsSpan((int)key + keyLength, valueLength),
                (U32(element) & 1) != 0,
                key + keyLength);
        }
    }

    private uint U32(long offset) => BinaryPrimitives.ReadUInt32LittleEndian(_file.AsSpan((int)offset));

    private ulong U64(long offset) => BinaryPrimitives.ReadUInt64LittleEndian(_file.AsSpan((int)offset));
}
