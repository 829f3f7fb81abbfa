// Question  what does reading a hot message cost: a put and a range as clients send them, a log entry, a stored pair?
using BenchmarkDotNet.Attributes;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Bench.Micro;

public class CodecBenchmarks
{
    private const int Step = 1000;
    private byte[] _put = [], _range = [], _entry = [], _pair = [];

    [GlobalSetup]
    public void Begin()
    {
        var writer = new ProtoWriter(new byte[512]);
        writer.WriteBytesField(1, "/registry/bench/0000000000000001"u8);
        _range = writer.Written.ToArray();
        writer.WriteBytesField(2, new byte[256]);
        _put = writer.Written.ToArray();
        RequestHeader header = default;
        header.Id = 1L << 60;
        var entry = new ProtoWriter(new byte[InternalRaftRequest.Size(RequestKind.Put, _put.Length, in header)]);
        InternalRaftRequest.Write(ref entry, RequestKind.Put, _put, in header);
        _entry = entry.Written.ToArray();
        var pair = new ProtoWriter(new byte[512]);
        pair.WriteBytesField(1, "/registry/bench/0000000000000001"u8);
        pair.WriteVarintField(2, 1_000_000);
        pair.WriteVarintField(3, 2_000_000);
        pair.WriteVarintField(4, 17);
        pair.WriteBytesField(5, new byte[256]);
        _pair = pair.Written.ToArray();
    }

    [Benchmark(Description = "codec: PutRequest of 256 bytes read and planned as it came", OperationsPerInvoke = Step)]
    public int Put()
    {
        int sum = 0;
        for (int i = 0; i < Step; i++)
        {
            sum += RequestCanon.TryPlanPut(_put, out PutRequest put, out _) ? put.Value.Length : 0;
        }

        return sum;
    }

    [Benchmark(Description = "codec: RangeRequest read", OperationsPerInvoke = Step)]
    public int Range()
    {
        int sum = 0;
        for (int i = 0; i < Step; i++)
        {
            sum += RangeRequest.TryParse(_range, out RangeRequest range) ? range.Key.Length : 0;
        }

        return sum;
    }

    [Benchmark(Description = "codec: InternalRaftRequest read", OperationsPerInvoke = Step)]
    public int Entry()
    {
        int sum = 0;
        for (int i = 0; i < Step; i++)
        {
            sum += InternalRaftRequest.TryParse(_entry, out InternalRaftRequest entry) ? entry.Body.Length : 0;
        }

        return sum;
    }

    [Benchmark(Description = "codec: KeyValue read", OperationsPerInvoke = Step)]
    public int Pair()
    {
        int sum = 0;
        for (int i = 0; i < Step; i++)
        {
            sum += KeyValue.TryParse(_pair, out KeyValue pair) ? pair.Value.Length : 0;
        }

        return sum;
    }
}
