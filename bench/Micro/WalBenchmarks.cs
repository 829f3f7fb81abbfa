// Question  what does encoding an entry of 300 bytes into log frames cost (checksum and copy)? Writing and syncing: `bench wal`.
using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using Cairn.Wal;

namespace Cairn.Bench.Micro;

public unsafe class WalBenchmarks
{
    private const int Batch = 64;
    private RecordEncoder _encoder = null!;
    private byte* _payload;
    private ulong _index;

    [GlobalSetup]
    public void Begin()
    {
        _encoder = new RecordEncoder(1 << 20);
        _payload = (byte*)NativeMemory.AllocZeroed(300);
    }

    [GlobalCleanup]
    public void End()
    {
        _encoder.Dispose();
        NativeMemory.Free(_payload);
    }

    [Benchmark(Description = "wal: an entry of 300 bytes encoded", OperationsPerInvoke = Batch)]
    public int Encode()
    {
        _encoder.Begin(_encoder.Crc);
        for (int i = 0; i < Batch; i++)
        {
            _encoder.AppendEntry(new WalEntry { Term = 7, Index = ++_index, Data = _payload, Length = 300 });
        }

        return _encoder.Length;
    }
}
