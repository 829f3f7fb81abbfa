// SnapshotService: Maintenance.Snapshot: the database file as it was at one durable point, in pieces.
//
// Why        The image is read from a pinned root at the client's pace: nothing is copied aside first, and a slow
//            client holds only the pin (pages it reaches are not reused meanwhile) and one slice of memory.
// Thread     Slices are read and hashed on the slow thread (pages may be cold), sent by I/O threads.
// Layout     32 KiB of the file in each message with the bytes that remain; then one message with the SHA-256 of
//            everything before. Header is never set; version is the storage version.
using System;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Streams the database.</summary>
internal sealed class SnapshotService(MemberPort port, SlowWorker slow)
{
    private const int PieceBytes = 32 * 1024;
    private const int SliceBytes = 8 * PieceBytes;

    public async ValueTask SnapshotAsync(RpcCall call)
    {
        ErrorCode outcome = MemberPort.IsMessage(call.Request)
            ? port.Admit(call, learnerMayServe: true)
            : ErrorCode.MalformedRequest;
        call.ReleaseRequest();
        if (outcome == ErrorCode.None)
        {
            RequestSlot slot = port.Rent(call);
            try
            {
                outcome = await port.Member.FreezeAndWaitAsync(slot);
            }
            finally
            {
                port.Member.Return(slot);
            }
        }

        if (outcome != ErrorCode.None)
        {
            call.Fail(port.Explain(call, outcome));
            return;
        }

        Tree tree = port.Member.Tree;
        long start = port.Clock.NowNs;
        TreePin pin = tree.Pin();
        try
        {
            await StreamAsync(call, tree, pin);
        }
        finally
        {
            tree.Unpin(pin);
            port.Figures.Snapshot.Observe(port.Clock.NowNs - start);
        }
    }

    private async ValueTask StreamAsync(RpcCall call, Tree tree, TreePin pin)
    {
        byte[] version = Encoding.UTF8.GetBytes(port.Member.StorageVersion);
        byte[] slice = new byte[SliceBytes];
        using var sum = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        long total = tree.ImageBytes(pin);
        long offset = 0;
        while (offset < total)
        {
            long from = offset;
            int wanted = (int)Math.Min(SliceBytes, total - offset);
            Task<int>? reading = slow.TryRun(() =>
            {
                int read = tree.ReadImage(pin, from, slice.AsSpan(0, wanted));
                sum.AppendData(slice, 0, read);
                return read;
            });
            if (reading is null)
            {
                call.Fail(ErrorCode.TooManyRequests);
                return;
            }

            int count = await reading;
            Invariant.Check(count == wanted, "an image has the size it announced");
            for (int start = 0; start < count; start += PieceBytes)
            {
                int length = Math.Min(PieceBytes, count - start);
                offset += length;
                Send(call, (ulong)(total - offset), slice.AsSpan(start, length), version);
            }

            if (!await call.FlushAsync())
            {
                call.Fail(RpcCode.Canceled, "context canceled");
                return;
            }

            if (call.DeadlineNs <= port.Clock.NowNs)
            {
                call.Fail(ErrorCode.ContextDeadlineExceeded);
                return;
            }
        }

        Send(call, 0, sum.GetHashAndReset(), version);
    }

    // SnapshotResponse: 2 remaining_bytes, 3 blob, 4 version.
    private static void Send(RpcCall call, ulong remaining, ReadOnlySpan<byte> blob, ReadOnlySpan<byte> version)
    {
        int size = ProtoSize.VarintFieldIfSet(2, remaining)
            + ProtoSize.BytesField(3, blob.Length)
            + ProtoSize.BytesFieldIfSet(4, version.Length);
        call.BeginMessage(size);
        Span<byte> head = stackalloc byte[32];
        var writer = new ProtoWriter(head);
        writer.WriteVarintFieldIfSet(2, remaining);
        writer.WriteTag(3, WireType.Bytes);
        writer.WriteVarint((ulong)blob.Length);
        call.Append(writer.Written);
        call.Append(blob);
        if (!version.IsEmpty)
        {
            Span<byte> tail = stackalloc byte[64];
            var last = new ProtoWriter(tail);
            last.WriteBytesField(4, version);
            call.Append(last.Written);
        }
    }
}
