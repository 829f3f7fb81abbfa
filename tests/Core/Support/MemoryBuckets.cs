// MemoryBuckets: the ten buckets as sorted dictionaries; stands in for the store in tests of what writes to it.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Core.Mvcc;

namespace Cairn.Core.Tests.Support;

internal sealed class MemoryBuckets : IBucketWriter, IBucketReader
{
    private readonly SortedDictionary<string, byte[]>[] _buckets = new SortedDictionary<string, byte[]>[BucketNames.Count];

    public MemoryBuckets()
    {
        for (int i = 0; i < _buckets.Length; i++)
        {
            _buckets[i] = new SortedDictionary<string, byte[]>(StringComparer.Ordinal);
        }
    }

    /// <summary>Key in hex to value.</summary>
    public SortedDictionary<string, byte[]> this[BucketId bucket] => _buckets[(int)bucket];

    public static MemoryBuckets From(PlainBolt file)
    {
        var buckets = new MemoryBuckets();
        foreach (BucketId id in Enum.GetValues<BucketId>())
        {
            foreach ((string key, byte[] value) in file.Buckets[Encoding.ASCII.GetString(BucketNames.Get(id))])
            {
                buckets[id].Add(key, value);
            }
        }

        return buckets;
    }

    public void Put(BucketId bucket, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) =>
        this[bucket][Convert.ToHexStringLower(key)] = value.ToArray();

    public void Delete(BucketId bucket, ReadOnlySpan<byte> key) => this[bucket].Remove(Convert.ToHexStringLower(key));

    public void Clear(BucketId bucket) => this[bucket].Clear();

    public void ForEach<TVisitor>(BucketId bucket, ref TVisitor visitor)
        where TVisitor : struct, IBucketVisitor
    {
        foreach ((string key, byte[] value) in this[bucket])
        {
            visitor.Visit(Convert.FromHexString(key), value);
        }
    }

    /// <summary>One line per pair, printable where possible.</summary>
    public string Dump(BucketId bucket)
    {
        var text = new StringBuilder();
        foreach ((string key, byte[] value) in this[bucket])
        {
            text.Append(key).Append(" = ").Append(Convert.ToHexStringLower(value)).Append('\n');
        }

        return text.ToString();
    }
}
