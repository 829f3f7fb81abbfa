// Operations: seeded random requests for the differential test, legal and illegal, every field of every KV message.
//
// A seed decides the stream completely; the only input from outside is the current and the compacted revision, which the
// answers tell and which are equal on both servers as long as the test passes.
using System;
using System.Collections.Generic;
using System.Text;

namespace Cairn.Cluster;

/// <summary>One request. A read may run at the same time as other reads; everything else runs alone.</summary>
internal sealed record Operation(string Method, byte[] Request, bool IsRead, string? OnlySubjectExpects = null);

internal sealed class Operations(int seed)
{
    private static readonly byte[] s_nul = [0];
    private readonly Random _random = new(seed);
    private readonly HashSet<long> _compactions = [];

    /// <summary>Current revision as the last answer told it.</summary>
    public long Revision { get; set; } = 1;

    /// <summary>Revision of the last accepted compaction, 0 before the first.</summary>
    public long Compacted { get; private set; }

    /// <summary>A compaction was accepted.</summary>
    public void Accepted(long compaction)
    {
        Compacted = compaction;
        _compactions.Add(compaction);
    }

    /// <summary>The next operation of the stream.</summary>
    public Operation Next() => _random.Next(1000) switch
    {
        < 330 => new Operation(Grpc.Range, Range(plain: true).Bytes, IsRead: true),
        < 340 => UnknownSort(),
        < 560 => new Operation(Grpc.Put, Put().Bytes, IsRead: false),
        < 640 => new Operation(Grpc.DeleteRange, DeleteRange().Bytes, IsRead: false),
        < 900 => new Operation(Grpc.Txn, Txn(0, _random.Next(6) == 0).Bytes, IsRead: false),
        < 912 => Compact(),
        < 925 => new Operation(Grpc.HashKv, new Pb().Number(1, HashRevision()).Bytes, IsRead: true),
        < 935 => new Operation(Grpc.LeaseGrant, new Pb().Number(1, _random.Next(8) switch
        {
            0 => 9_000_000_001, 1 => 9_000_000_000, _ => 36_000,
        }).Number(2, 1 + _random.Next(8)).Bytes, IsRead: false),
        < 940 => new Operation(Grpc.LeaseRevoke, new Pb().Number(1, 1 + _random.Next(10)).Bytes, IsRead: false),
        < 945 => new Operation(Grpc.LeaseTimeToLive, new Pb().Number(1, 1 + _random.Next(10)).Flag(2, true).Bytes, IsRead: true),
        < 965 => Truncated(),
        < 980 => Flipped(),
        < 990 => Oversized(),
        _ => Oddity(),
    };

    private static byte[] Utf8(string text) => Encoding.UTF8.GetBytes(text);

    private bool Chance(int oneIn) => _random.Next(oneIn) == 0;

    private byte[] Key() => _random.Next(40) switch
    {
        0 => [],
        1 => s_nul,
        2 => [0xff],
        3 => [0xff, 0xff],
        4 => [.. "k/"u8, 0],
        5 => Utf8("k"),
        6 => Utf8("k/"),
        7 => Utf8(new string('k', 300)),
        < 14 => Utf8("dir/" + (char)('a' + _random.Next(4)) + "/" + (char)('a' + _random.Next(4))),
        _ => Utf8("k/" + _random.Next(30).ToString("d2", System.Globalization.CultureInfo.InvariantCulture)),
    };

    private byte[] RangeEnd(byte[] key) => _random.Next(10) switch
    {
        < 4 => [],
        4 => s_nul,
        5 => Utf8("k0"),
        6 => key,
        7 => PrefixEnd(key),
        _ => Key(),
    };

    private static byte[] PrefixEnd(byte[] key)
    {
        for (int i = key.Length - 1; i >= 0; i--)
        {
            if (key[i] < 0xff)
            {
                byte[] end = key[..(i + 1)];
                end[i]++;
                return end;
            }
        }

        return s_nul;
    }

    private byte[] Value()
    {
        byte[] value = new byte[_random.Next(240) switch { 0 => 100_000, < 10 => 5000, < 40 => 0, _ => _random.Next(1, 40) }];
        _random.NextBytes(value);
        if (Chance(3))
        {
            // Few distinct values, so that compares and sorts by value meet equal ones.
            value = Utf8("v" + _random.Next(4).ToString(System.Globalization.CultureInfo.InvariantCulture));
        }

        return value;
    }

    private long Lease() => _random.Next(8) switch { 0 => 777, < 4 => 1 + _random.Next(8), _ => 0 };

    private long SomeRevision() => _random.Next(12) switch
    {
        0 => -1 - _random.Next(5),
        1 => Revision + 1 + _random.Next(3),
        2 => Compacted,
        3 => Compacted - 1,
        4 => Revision,
        5 => long.MaxValue,
        _ => Compacted + 1 + (long)(_random.NextDouble() * Math.Max(1, Revision - Compacted)),
    };

    private long HashRevision()
    {
        // Both servers remember the hashes of their last ten compactions, but only of those that began after the one before
        // had finished in the background: what a hash at such a revision answers is a matter of timing.
        long revision = Chance(2) ? 0 : SomeRevision();
        return _compactions.Contains(revision) ? 0 : revision;
    }

    private Pb Range(bool plain)
    {
        byte[] key = Key();
        Pb range = new Pb().Data(1, key).Data(2, Chance(3) ? RangeEnd(key) : Chance(2) ? Utf8("k0") : []);
        if (Chance(3))
        {
            range.Number(3, _random.Next(6) switch { 0 => -1, 1 => long.MaxValue, _ => _random.Next(8) });
        }

        if (Chance(3))
        {
            range.Number(4, SomeRevision());
        }

        if (Chance(2))
        {
            range.Number(5, _random.Next(3)).Number(6, _random.Next(5));
        }

        range.Flag(7, Chance(2)).Flag(8, Chance(5)).Flag(9, Chance(8));
        if (Chance(5))
        {
            range.Number(10 + _random.Next(4), SomeRevision());
        }

        if (Chance(12))
        {
            range.Number(10 + _random.Next(4), SomeRevision());
        }

        return plain && Chance(30) ? Extra(range) : range;
    }

    private Operation UnknownSort()
    {
        // Only 3.6 refuses these: 3.5 ignores an unknown order and dies of an unknown target. So only the subject is asked.
        Pb range = new Pb().Data(1, Utf8("k/01")).Data(2, Utf8("k0"));
        _ = Chance(2) ? range.Number(5, 3 + _random.Next(5)) : range.Number(6, Chance(2) ? -1 : 5 + _random.Next(5));
        return new Operation(Grpc.Range, range.Bytes, IsRead: true, "3 etcdserver: invalid sort option");
    }

    private Pb Put()
    {
        Pb put = new Pb().Data(1, Key());
        bool ignoreValue = Chance(12), ignoreLease = Chance(12);
        if (!ignoreValue || Chance(6))
        {
            put.Data(2, Value());
        }

        if (!ignoreLease || Chance(6))
        {
            put.Number(3, Lease());
        }

        put.Flag(4, Chance(4)).Flag(5, ignoreValue).Flag(6, ignoreLease);
        return Chance(40) ? Extra(put) : put;
    }

    private Pb DeleteRange()
    {
        byte[] key = Key();
        Pb delete = new Pb().Data(1, key);
        if (Chance(3))
        {
            // Mostly narrow: a stream that empties the store again and again tests little else.
            delete.Data(2, Chance(6) ? RangeEnd(key) : [.. key, 0]);
        }

        return delete.Flag(3, Chance(2));
    }

    private Pb Txn(int depth, bool large)
    {
        Pb txn = new();
        int compares = large && Chance(3) ? 126 + _random.Next(5) : _random.Next(3);
        for (int i = 0; i < compares; i++)
        {
            txn.Message(1, Compare());
        }

        for (int branch = 2; branch <= 3; branch++)
        {
            int count = large && Chance(3) ? 126 + _random.Next(4) : _random.Next(5);
            for (int i = 0; i < count; i++)
            {
                txn.Message(branch, Op(depth, large));
            }
        }

        return depth == 0 && Chance(50) ? Extra(txn) : txn;
    }

    private Pb Op(int depth, bool large)
    {
        Pb op = new();
        switch (_random.Next(20))
        {
            case < 7:
                return op.Message(1, large ? new Pb().Data(1, Utf8("k/03")) : Range(plain: false));
            case < 14:
                return op.Message(2, large
                    ? new Pb().Data(1, Utf8("bulk/" + _random.Next(100_000).ToString(System.Globalization.CultureInfo.InvariantCulture))).Data(2, Value().AsSpan(0, 0).ToArray())
                    : Put());
            case < 17:
                return op.Message(3, DeleteRange());
            case < 19:
                return depth < 3 ? op.Message(4, Txn(depth + 1, large && Chance(3))) : op.Message(1, Range(plain: false));
            default:
                return Chance(10) ? op : op.Message(1, Range(plain: false));
        }
    }

    private Pb Compare()
    {
        byte[] key = Key();
        Pb compare = new Pb().Number(1, Chance(40) ? 9 : _random.Next(4)).Number(2, Chance(40) ? 11 : _random.Next(5));
        compare.Data(3, Chance(30) ? key : key.Length == 0 ? Utf8("k/00") : key);
        switch (_random.Next(7))
        {
            case 0:
                compare.ExplicitNumber(4, _random.Next(4));
                break;
            case 1:
                compare.ExplicitNumber(5, Math.Max(0, SomeRevision()));
                break;
            case 2:
                compare.ExplicitNumber(6, Math.Max(0, SomeRevision()));
                break;
            case < 5:
                compare.ExplicitData(7, Chance(2) ? Utf8("v" + _random.Next(4)) : Value());
                break;
            case 5:
                compare.ExplicitNumber(8, Lease());
                break;
            default:
                break;
        }

        return Chance(4) ? compare.Data(64, RangeEnd(key)) : compare;
    }

    private Operation Compact()
    {
        long revision = _random.Next(10) switch
        {
            0 => Revision + 1 + _random.Next(3),
            1 => Compacted,
            2 => -1,
            3 => Math.Max(0, Compacted - 1),
            _ => Math.Max(Compacted + 1, Revision - _random.Next(60)),
        };

        // See the named differences in DifferentialTests.
        revision = revision == 0 ? -1 : revision;
        return new Operation(Grpc.Compact, new Pb().Number(1, revision).Flag(2, Chance(2)).Bytes, IsRead: false);
    }

    private Operation Valid()
    {
        return _random.Next(4) switch
        {
            0 => new Operation(Grpc.Range, Range(plain: false).Bytes, IsRead: true),
            1 => new Operation(Grpc.Put, Put().Bytes, IsRead: false),
            2 => new Operation(Grpc.DeleteRange, DeleteRange().Bytes, IsRead: false),
            _ => new Operation(Grpc.Txn, Txn(0, large: false).Bytes, IsRead: false),
        };
    }

    private Operation Truncated()
    {
        Operation whole = Valid();
        return whole with { Request = whole.Request[.._random.Next(whole.Request.Length + 1)], IsRead = false };
    }

    private Operation Flipped()
    {
        // Only where a flip cannot make a sort target of 3.5's nightmares.
        Operation whole = Chance(2)
            ? new Operation(Grpc.Put, Put().Bytes, IsRead: false)
            : new Operation(Grpc.DeleteRange, DeleteRange().Bytes, IsRead: false);
        if (whole.Request.Length == 0)
        {
            return whole;
        }

        byte[] bytes = [.. whole.Request];
        bytes[_random.Next(Math.Min(bytes.Length, 64))] ^= (byte)(1 << _random.Next(8));
        return whole with { Request = bytes };
    }

    private Operation Oversized() => new(
        Grpc.Put, new Pb().Data(1, Utf8("big")).Data(2, new byte[_random.Next(20) switch
        {
            0 => 2_097_152, 1 => 1_572_864, 2 => 1_572_700, _ => 300,
        }]).Bytes, IsRead: false);

    private Operation Oddity() => _random.Next(6) switch
    {
        // A repeated singular field: the last one counts.
        0 => new Operation(Grpc.Put, new Pb().Data(1, Utf8("k/01")).Data(1, Utf8("k/02")).Data(2, Utf8("twice")).Bytes, IsRead: false),

        // Fields out of order.
        1 => new Operation(Grpc.Put, new Pb().Data(2, Utf8("order")).Data(1, Utf8("k/03")).Bytes, IsRead: false),

        // Zeros that a proto3 writer would leave out.
        2 => new Operation(Grpc.Put, new Pb().Data(1, Utf8("k/04")).ExplicitData(2, []).ExplicitNumber(3, 0).ExplicitNumber(4, 0).Bytes, IsRead: false),

        // A wrong wire type for a known field.
        3 => new Operation(Grpc.Put, new Pb().ExplicitNumber(1, 7).Bytes, IsRead: false),

        // A bool that is neither 0 nor 1.
        4 => new Operation(Grpc.Put, new Pb().Data(1, Utf8("k/05")).Data(2, Utf8("b")).ExplicitNumber(4, 17).Bytes, IsRead: false),

        // Both members of a oneof: the last one counts.
        _ => new Operation(Grpc.Txn, new Pb().Message(2, new Pb()
            .Message(1, new Pb().Data(1, Utf8("k/06"))).Message(2, new Pb().Data(1, Utf8("k/06")).Data(2, Utf8("one")))).Bytes, IsRead: false),
    };

    private Pb Extra(Pb message) => _random.Next(3) switch
    {
        0 => message.ExplicitNumber(99, 5),
        1 => message.ExplicitData(1234, [1, 2, 3]),
        _ => message.Raw(0xfd, 0x06, 1, 2, 3, 4),
    };
}
