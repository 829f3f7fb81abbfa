// ClusterService: etcdserverpb.Cluster: the list, and changes of membership.
//
// Changes    are checked and proposed by the member (Core); here are only the messages, and etcd's look at the URLs of an add.
//            They wait as long as the client does: the server has no limit of its own for them.
using System;
using System.Collections.Generic;
using System.Text;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Host;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>The member list and its changes.</summary>
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

    /// <summary>MemberAddRequest {1 peerURLs, 2 isLearner} to MemberAddResponse {1 header, 2 member, 3 members}.</summary>
    public async ValueTask MemberAddAsync(RpcCall call)
    {
        bool read = TryReadMember(call.Request, urlField: 1, out _, out List<string> urls, out bool isLearner);
        ErrorCode outcome = read ? port.Admit(call) : ErrorCode.MalformedRequest;
        call.ReleaseRequest();
        if (outcome == ErrorCode.None && !TryNormalize(urls))
        {
            outcome = ErrorCode.MemberBadUrls;
        }

        if (outcome != ErrorCode.None)
        {
            call.Fail(outcome);
            return;
        }

        (outcome, ClusterMember added) = await port.Member.AddMemberAsync(urls, isLearner, call.DeadlineNs);
        Finish(call, outcome, added);
    }

    /// <summary>MemberRemoveRequest {1 ID}.</summary>
    public async ValueTask MemberRemoveAsync(RpcCall call)
    {
        if (Begin(call, out ulong id, out _))
        {
            Finish(call, await port.Member.RemoveMemberAsync(id, call.DeadlineNs));
        }
    }

    /// <summary>MemberUpdateRequest {1 ID, 2 peerURLs}; the URLs are not looked at, as in etcd.</summary>
    public async ValueTask MemberUpdateAsync(RpcCall call)
    {
        if (Begin(call, out ulong id, out List<string> urls))
        {
            Finish(call, await port.Member.UpdateMemberAsync(id, urls, call.DeadlineNs));
        }
    }

    /// <summary>MemberPromoteRequest {1 ID}.</summary>
    public async ValueTask MemberPromoteAsync(RpcCall call)
    {
        if (Begin(call, out ulong id, out _))
        {
            Finish(call, await port.Member.PromoteMemberAsync(id, call.DeadlineNs));
        }
    }

    /// <summary>URLs as etcd stores them after an add: each checked, blanks gone, sorted. False when one is none.</summary>
    internal static bool TryNormalize(List<string> urls)
    {
        for (int i = 0; i < urls.Count; i++)
        {
            if (!ListenUrl.TryParse(urls[i], out ListenUrl url, out _))
            {
                return false;
            }

            // A query is no path: it passes, and stays.
            string given = urls[i].Trim();
            int query = given.IndexOf('?', StringComparison.Ordinal);
            urls[i] = query < 0 ? url.Text : url.Text + given[query..];
        }

        urls.Sort(StringComparer.Ordinal);
        return urls.Count != 0;
    }

    private bool Begin(RpcCall call, out ulong id, out List<string> urls)
    {
        ErrorCode outcome = TryReadMember(call.Request, urlField: 2, out id, out urls, out _)
            ? port.Admit(call)
            : ErrorCode.MalformedRequest;
        call.ReleaseRequest();
        if (outcome != ErrorCode.None)
        {
            call.Fail(outcome);
        }

        return outcome == ErrorCode.None;
    }

    private void Finish(RpcCall call, ErrorCode outcome, ClusterMember? added = null)
    {
        if (outcome != ErrorCode.None)
        {
            call.Fail(port.Explain(call, outcome));
            return;
        }

        // Header, the member of an add, then everybody.
        call.Write(Encode(port.Header(revision: 0), port.Member.ClusterView.Members, added));
    }

    private static bool TryReadMember(
        ReadOnlySpan<byte> request, int urlField, out ulong id, out List<string> urls, out bool isLearner)
    {
        id = 0;
        urls = [];
        isLearner = false;
        var reader = new MessageReader(request);
        while (reader.NextField())
        {
            if (reader.Field == urlField)
            {
                urls.Add(Encoding.UTF8.GetString(reader.ReadBytes()));
            }
            else if (reader.Field == 1)
            {
                id = reader.ReadUInt64();
            }
            else if (reader.Field == 2)
            {
                isLearner = reader.ReadBool();
            }
            else
            {
                reader.Skip();
            }
        }

        return !reader.Failed;
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

    /// <summary>MemberListResponse: 1 header, 2 members; with an added member: 1 header, 2 that one, 3 members.</summary>
    internal static byte[] Encode(ResponseHeader header, ReadOnlySpan<ClusterMember> members, ClusterMember? added = null)
    {
        int field = added is null ? 2 : 3;
        int size = header.FieldSize + (added is null ? 0 : ProtoSize.BytesField(2, Size(added)));
        foreach (ClusterMember member in members)
        {
            size += ProtoSize.BytesField(field, Size(member));
        }

        byte[] body = new byte[size];
        var writer = new ProtoWriter(body);
        header.WriteField(ref writer);
        if (added is not null)
        {
            writer.WriteTag(2, WireType.Bytes);
            writer.WriteVarint((ulong)Size(added));
            Write(ref writer, added);
        }

        foreach (ClusterMember member in members)
        {
            writer.WriteTag(field, WireType.Bytes);
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
