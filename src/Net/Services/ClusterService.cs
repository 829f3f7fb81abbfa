// ClusterService: etcdserverpb.Cluster. Only the list so far; changes of membership belong to a later part.
using System;
using System.Collections.Generic;
using System.Text;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>The member list.</summary>
internal sealed class ClusterService(MemberPort port)
{
    /// <summary>MemberListRequest.linearizable.</summary>
    private const int LinearizableField = 1;

    public async ValueTask MemberListAsync(RpcCall call)
    {
        ErrorCode outcome = TryRead(call.Request, out bool linearizable) ? port.Admit(call) : ErrorCode.MalformedRequest;
        call.ReleaseRequest();
        if (outcome == ErrorCode.None && linearizable)
        {
            RequestSlot slot = port.Rent(call);
            try
            {
                outcome = await port.Member.ReadIndexAsync(slot, port.Deadline(call));
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

        // Membership headers carry no revision.
        call.Write(Encode(port.Header(revision: 0), port.Member.ClusterView.Members));
    }

    private static bool TryRead(ReadOnlySpan<byte> request, out bool linearizable)
    {
        linearizable = false;
        var reader = new MessageReader(request);
        while (reader.NextField())
        {
            if (reader.Field == LinearizableField)
            {
                linearizable = reader.ReadBool();
            }
            else
            {
                reader.Skip();
            }
        }

        return !reader.Failed;
    }

    /// <summary>MemberListResponse: 1 header, 2 members.</summary>
    internal static byte[] Encode(ResponseHeader header, ReadOnlySpan<ClusterMember> members)
    {
        int size = header.FieldSize;
        foreach (ClusterMember member in members)
        {
            size += ProtoSize.BytesField(2, Size(member));
        }

        byte[] body = new byte[size];
        var writer = new ProtoWriter(body);
        header.WriteField(ref writer);
        foreach (ClusterMember member in members)
        {
            writer.WriteTag(2, WireType.Bytes);
            writer.WriteVarint((ulong)Size(member));
            Write(ref writer, member);
        }

        return body;
    }

    private static int Size(ClusterMember member)
        => ProtoSize.VarintFieldIfSet(1, member.Id)
            + ProtoSize.BytesFieldIfSet(2, Encoding.UTF8.GetByteCount(member.Name))
            + Size(3, member.PeerUrls)
            + Size(4, member.ClientUrls)
            + (member.IsLearner ? 2 : 0);

    private static int Size(int field, IReadOnlyList<string> texts)
    {
        int size = 0;
        foreach (string text in texts)
        {
            size += ProtoSize.BytesField(field, Encoding.UTF8.GetByteCount(text));
        }

        return size;
    }

    private static void Write(ref ProtoWriter writer, ClusterMember member)
    {
        writer.WriteVarintFieldIfSet(1, member.Id);
        writer.WriteBytesFieldIfSet(2, Encoding.UTF8.GetBytes(member.Name));
        foreach (string url in member.PeerUrls)
        {
            writer.WriteBytesField(3, Encoding.UTF8.GetBytes(url));
        }

        foreach (string url in member.ClientUrls)
        {
            writer.WriteBytesField(4, Encoding.UTF8.GetBytes(url));
        }

        writer.WriteVarintFieldIfSet(5, member.IsLearner ? 1u : 0);
    }
}
